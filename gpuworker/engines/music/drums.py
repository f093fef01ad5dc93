"""Grooves and fills as strings: one character per sixteenth, `X` loud, `x`, `o` soft, `-` a ghost, `.` a rest."""

from collections.abc import Iterator
from typing import NamedTuple

from gpuworker.engines.music.mood import SIX_EIGHTHS, Plan
from gpuworker.engines.music.scene import Scene, Stroke
from gpuworker.engines.music.sections import END, INTRO, OUTRO

_LOUD = {"X": 1.0, "x": 0.75, "o": 0.5, "-": 0.26}


class Line(NamedTuple):
    """One sound of a groove."""

    sound: str
    steps: str
    #: Plays in sections whose drum level (0 … 3) is at least this.
    level: int


def _groove(*lines: str) -> tuple[Line, ...]:
    """Lines `level sound steps`."""
    parsed = [line.split() for line in lines]
    return tuple(Line(sound, steps, int(level)) for level, sound, steps in parsed)


GROOVES: dict[str, tuple[Line, ...]] = {
    "pop": _groove("1 kick X.....x.X.....o.", "1 snare ....X.......X...", "0 hat x.o.x.o.x.o.x.o.",
        "2 shaker o-o-o-o-o-o-o-o-", "3 openhat ..............x.", "3 kick ..........x....."),
    "ballad": _groove("1 kick X.......x.x.....", "2 snare ....x.......x..-", "1 rim ....x.......x...",
        "0 hat o...-...o...-...", "2 hat ..-...-...-...-.", "3 tambourine ....o.......o..."),
    "boombap": _groove("0 kick X......x..X.....", "1 snare ....X..-.-..X..-", "0 hat x.o.x.o.x.o.x.o.",
        "2 shaker ..-...-...-...-.", "3 openhat ......o........."),
    "swing": _groove("0 ride X...x.o.X...x.o.", "0 pedal ....x.......x...", "1 kick o.......o.....-.",
        "1 brush ..-...-...-..-..", "2 snare ......-.......-.", "3 rim ............x..."),
    "house": _groove("0 kick X...X...X...X...", "1 openhat ..x...x...x...x.", "1 clap ....X.......X...",
        "2 hat o-.-o-.-o-.-o-.-", "3 tambourine ....o..o....o..o", "3 rim ...o..o.....o..."),
    "taiko": _groove("0 boom X...............", "1 taiko X..x..x.X..x..x.", "2 taiko ....o.o.....o.oo",
        "2 tomlow ......x.......xx", "3 snare ....x..-....x.--", "3 boom ........x......."),
    "rock": _groove("1 kick X.......X.x.....", "1 snare ....X.......X...", "0 hat x.x.x.x.x.x.x.x.",
        "2 kick ......x.........", "3 ride X...x...X...x...", "3 openhat ..............x."),
    "folk": _groove("0 shaker x-o-x-o-x-o-x-o-", "1 kick x.......x.......", "2 rim ....x.......x..-",
        "3 tambourine ....x.......x..."),
    "chip": _groove("0 kick X...x...X...x...", "1 snare ....X.......X...", "1 hat x.x.x.x.x.x.x.x.",
        "3 hat .o.o.o.o.o.o.o.o"),
    "funk": _groove("1 kick X..x......x..x..", "1 snare ....X..-.-..X..-", "0 hat x-x-x-x-x-x-x-x-",
        "2 openhat ......x.........", "3 conga ..o...o...o..oo."),
    "bossa": _groove("0 shaker x-o-x-o-x-o-x-o-", "0 kick x.....x.x.....x.", "1 rim x..x..x...x..x..",
        "2 conga ....o.oo....o.oo", "3 hat ..o...o...o...o."),
    "trap": _groove("0 kick X......x..X.....", "1 clap ........X.......", "0 hat x.x.x.x.x.x.x.x.",
        "2 hat .....o....o..o.o", "3 openhat ..............x.", "3 rim ...o......o....."),
}  # fmt: skip
#: Grooves in three beats, the same for all styles: soft and full.
_THREE = {
    False: _groove("0 brush x...o...o...", "1 kick x...........", "2 rim ....o...o...", "3 tambourine ....x...x..."),
    True: _groove("0 kick X...........", "1 snare ....x...x...", "0 hat x.o.x.o.x.o.", "3 openhat ..........x."),
}
#: Grooves in six eighths.
_SIX = {
    False: _groove("0 brush x.-.-.x.-.-.", "1 kick x...........", "2 rim ......o.....", "3 tambourine ....x.....x."),
    True: _groove("0 kick X.........x.", "1 snare ......X.....", "0 hat x.o.o.x.o.o.", "3 openhat ..........x."),
}
_SOFT_STYLES = {"ballad", "folk", "swing", "bossa", "taiko"}
#: The last sixteenths of a fill bar, four beats; later ones are busier.
_FILLS: tuple[tuple[str, ...], ...] = (
    ("snare ............o.xX",),
    ("snare ........x.x.....", "tomhigh ............xx..", "tomlow ..............xX"),
    ("snare ........xxoo....", "tomhigh ..........xx....", "tommid ............xx..", "tomlow ..............XX"),
)
_ROLL: tuple[str, ...] = ("snare --o-o-oooooxxxXX",)
_CYMBAL_SOFT = {"swing", "bossa", "folk", "ballad", "boombap"}


def write_drums(scene: Scene) -> Iterator[Stroke]:
    """Groove, fills into the next section, a cymbal where one begins; nothing for a plan without drums."""
    if not scene.plan.groove:
        return
    if scene.section.kind is END:
        yield from _final(scene)
        return
    for bar in range(scene.section.bars):
        fills = bar == scene.section.bars - 1
        yield from _bar(scene, bar, fills=fills)
    if scene.section.kind.drums >= 1 and scene.section.index > 0 and scene.plan.groove != "taiko":
        yield Stroke("crash", 0.0, 0.32 if scene.plan.groove in _CYMBAL_SOFT else 0.7)


def _bar(scene: Scene, bar: int, *, fills: bool) -> Iterator[Stroke]:
    section, plan = scene.section, scene.plan
    level = section.kind.drums
    if section.kind is INTRO and bar < section.bars // 2:
        return
    if section.kind is OUTRO and bar >= 2:
        level = 0
    lines = _lines(plan)
    start = float(bar * plan.beats)
    fill_from = float(plan.beats)
    if fills and plan.groove not in {"swing", "bossa"} and section.bars > 1:
        fill = list(_fill(scene))
        fill_from = min((stroke.beat for stroke in fill), default=fill_from)
        for stroke in fill:
            yield stroke._replace(beat=start + stroke.beat)
    rng = scene.rng("drums", bar)
    for line in lines:
        for step, mark in enumerate(line.steps[: 4 * plan.beats]):
            beat = step / 4
            keeps = beat < fill_from or line.sound == "kick"
            if mark in _LOUD and line.level <= level and keeps and (mark != "-" or rng.random() < 0.75):
                yield Stroke(line.sound, start + beat, _LOUD[mark] * (0.9 + 0.1 * rng.random()))


def _lines(plan: Plan) -> tuple[Line, ...]:
    """The groove in the plan's metre; a bar of two quarters has its first half."""
    if plan.metre == SIX_EIGHTHS:
        return _SIX[plan.groove not in _SOFT_STYLES]
    return _THREE[plan.groove not in _SOFT_STYLES] if plan.metre == 3 else GROOVES[plan.groove]


def _fill(scene: Scene) -> Iterator[Stroke]:
    rng = scene.rng("fill")
    if scene.section.kind.material == "c" and scene.plan.energy > 0.5:
        rows = _ROLL
    else:
        rows = _FILLS[min(2, int(scene.energy * 3 * rng.random() + 0.4))]
    quiet = 0.6 if scene.plan.groove in _CYMBAL_SOFT else 0.85
    for row in rows:
        sound, steps = row.split()
        if scene.plan.groove == "taiko":
            sound = {"snare": "taiko", "tomhigh": "tomhigh"}.get(sound, sound)
        for step, mark in enumerate(steps[-4 * scene.plan.beats :]):
            if mark in _LOUD:
                yield Stroke(sound, step / 4, _LOUD[mark] * quiet)


def _final(scene: Scene) -> Iterator[Stroke]:
    loud = 0.4 if scene.plan.groove in _CYMBAL_SOFT else 0.75
    yield Stroke("boom" if scene.plan.groove == "taiko" else "kick", 0.0, loud + 0.2)
    yield Stroke("crash", 0.0, loud)
