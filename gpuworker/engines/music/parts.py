"""The accompaniment of the tune: chords in a pattern, a bass that follows them, pads and arpeggios."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gpuworker.engines.music.mood import SIX_EIGHTHS, Plan
from gpuworker.engines.music.scene import Harmony, Scene, WrittenNote
from gpuworker.engines.music.sections import END, INTRO

#: (beat in the bar, beats, which tones: -1 all, -2 upper ones, else an index, velocity)
_Pattern = tuple[tuple[float, float, int, float], ...]


def _steady(step: float, length: float, tones: tuple[int, ...], velocity: float, beats: float = 4) -> _Pattern:
    count = round(beats / step)
    return tuple(
        (i * step, length, tones[i % len(tones)], velocity + (0.08 if i * step % 2 == 0 else 0)) for i in range(count)
    )


#: Four beats each; in a bar of three, the strokes beyond the third beat are left out.
COMPS: dict[str, _Pattern] = {
    "block": ((0, 3.8, -1, 0.55),),
    "sparse": ((0, 1.6, -1, 0.5), (2.5, 1.2, -2, 0.4)),
    "eighths": _steady(0.5, 0.42, (-1, -2), 0.42),
    "drive": _steady(0.5, 0.46, (-1,), 0.5),
    "strum": ((0, 0.95, -1, 0.6), (1, 0.45, -1, 0.45), (1.5, 0.45, -2, 0.4), (2.5, 0.45, -2, 0.42), (3, 0.5, -1, 0.5),
        (3.5, 0.45, -2, 0.4)),
    "arpeggio": _steady(0.5, 0.9, (0, 1, 2, 3, 2, 1, 2, 1), 0.45),
    "broken": ((0, 1.9, 0, 0.52), (0.5, 1.4, 1, 0.42), (1, 1.4, 2, 0.45), (1.5, 1, 3, 0.42), (2, 1.9, 2, 0.48),
        (2.5, 1, 1, 0.4), (3, 0.9, 3, 0.44), (3.5, 0.5, 2, 0.4)),
    "alberti": _steady(0.5, 0.48, (0, 2, 1, 2), 0.42),
    "stabs": ((0.5, 0.3, -1, 0.6), (1.5, 0.3, -1, 0.55), (2.25, 0.25, -1, 0.5), (3.5, 0.3, -1, 0.58)),
    "comping": ((0, 0.4, -1, 0.5), (1.5, 0.6, -1, 0.55), (3.5, 0.4, -2, 0.45)),
    "lazy": ((0, 1.3, -1, 0.5), (1.5, 0.5, -2, 0.36), (2.75, 1.1, -1, 0.42)),
    "ostinato": _steady(0.5, 0.36, (-1, 0, 1, 2), 0.5),
    "bossa": ((0, 0.9, -1, 0.5), (1.5, 0.4, -1, 0.46), (2.5, 0.4, -1, 0.46), (3.5, 0.45, -2, 0.42)),
    "waltz": ((1, 0.7, -1, 0.42), (2, 0.7, -2, 0.4)),
    "lilt": ((0, 0.45, 0, 0.5), (0.5, 0.4, -2, 0.38), (1, 0.4, -2, 0.4), (1.5, 0.45, 1, 0.46), (2, 0.4, -2, 0.38),
        (2.5, 0.4, -2, 0.4)),
}  # fmt: skip
#: (beat, beats, chord tone: 0 root, 1 third, 2 fifth, 3 the octave, velocity)
BASSLINES: dict[str, _Pattern] = {
    "roots": ((0, 3.7, 0, 0.7),),
    "fifths": ((0, 1.8, 0, 0.72), (2, 1.7, 2, 0.62)),
    "eighths": _steady(0.5, 0.45, (0,), 0.62),
    "syncopated": ((0, 1.3, 0, 0.75), (1.5, 0.9, 0, 0.65), (2.5, 0.45, 2, 0.6), (3, 0.9, 0, 0.66)),
    "lazy": ((0, 1.4, 0, 0.75), (1.75, 0.6, 0, 0.55), (2.5, 1.2, 2, 0.6)),
    "walking": ((0, 0.92, 0, 0.7), (1, 0.92, 1, 0.62), (2, 0.92, 2, 0.66), (3, 0.92, 1, 0.6)),
    "offbeat": tuple((beat + 0.5, 0.4, 0, 0.7) for beat in range(4)),
    "pumping": ((0, 0.4, 0, 0.7), (0.5, 0.4, 3, 0.55), (1, 0.4, 0, 0.65), (1.5, 0.4, 3, 0.55), (2, 0.4, 0, 0.68),
        (2.5, 0.4, 3, 0.55), (3, 0.4, 0, 0.65), (3.5, 0.4, 3, 0.55)),
    "funk": ((0, 0.6, 0, 0.8), (0.75, 0.2, 0, 0.5), (1.5, 0.4, 3, 0.66), (2.25, 0.2, 0, 0.55), (2.5, 0.5, 2, 0.62),
        (3.25, 0.2, 0, 0.5), (3.5, 0.4, 3, 0.6)),
    "lilt": ((0, 1.4, 0, 0.72), (1.5, 1.4, 2, 0.62)),
    "oompah": ((0, 0.9, 0, 0.72), (1, 0.9, 2, 0.6)),
    "bossa": ((0, 1.4, 0, 0.72), (1.5, 0.45, 2, 0.55), (2, 1.4, 2, 0.68), (3.5, 0.45, 0, 0.55)),
}  # fmt: skip


_BASS_OF_METRE = {2: "oompah", SIX_EIGHTHS: "lilt"}


class _Cell(NamedTuple):
    """One stretch of a pattern under one chord."""

    harmony: Harmony
    beat: float
    beats: float
    tone: int
    velocity: float


def write_chords(scene: Scene) -> Iterator[WrittenNote]:
    """The chords in the plan's pattern."""
    if scene.section.kind is END:
        for index, pitch in enumerate(scene.harmonies[0].voicing):
            yield WrittenNote("chords", 0.045 * index, float(scene.plan.beats), pitch, 0.58)
        return
    for cell in _cells(scene, COMPS[_comp(scene)]):
        voicing = cell.harmony.voicing
        tones = (*voicing, voicing[0] + 12)
        chosen = voicing if cell.tone == -1 else voicing[1:] if cell.tone == -2 else (tones[cell.tone % len(tones)],)
        strum_beats = 0.03 if scene.plan.comp == "strum" else 0.008
        for index, pitch in enumerate(chosen):
            late = strum_beats * index
            yield WrittenNote("chords", cell.beat + late, cell.beats - late, pitch, cell.velocity)


def write_bass(scene: Scene) -> Iterator[WrittenNote]:
    """The roots and fifths of the chords in the plan's bassline, with steps that lead to the next chord."""
    centre = scene.centre("bass")
    if scene.section.kind is END:
        root = _near(scene.key.pitch(0, scene.harmonies[0].chord), centre)
        yield WrittenNote("bass", 0.0, float(scene.plan.beats), root, 0.72)
        return
    restful = scene.section.kind.material == "c" or scene.section.kind is INTRO
    name = "roots" if restful else _bassline(scene.plan)
    cells = list(_cells(scene, BASSLINES[name]))
    roots = [_near(scene.key.pitch(cell.harmony.chord.degree, cell.harmony.chord), centre) for cell in cells]
    for index, (cell, root) in enumerate(zip(cells, roots, strict=True)):
        pitch = _bass_tone(scene, cell, root)
        following = roots[index + 1] if index + 1 < len(roots) else root
        leaves = index + 1 < len(roots) and cells[index + 1].harmony is not cell.harmony
        if leaves and following != root and name in {"walking", "eighths", "syncopated"}:
            pitch = following - 1 if root < following else following + 1 if name == "walking" else following + 2
            pitch = _in_scale(scene, cell, pitch) if name != "walking" else pitch
        yield WrittenNote("bass", cell.beat, cell.beats, pitch, cell.velocity)


def write_pad(scene: Scene) -> Iterator[WrittenNote]:
    """Whole chords, common tones tied over; the middle of the section swells."""
    for index, harmony in enumerate(scene.harmonies):
        swell = 0.5 + 0.06 * (index % 2)
        for pitch in harmony.voicing:
            yield WrittenNote("pad", harmony.beat, harmony.beats * 0.985, _near(pitch, scene.centre("pad")), swell)


def write_arp(scene: Scene) -> Iterator[WrittenNote]:
    """Broken chords above the others, thinner where little happens."""
    if scene.section.kind is END:
        for index, pitch in enumerate(scene.harmonies[0].voicing):
            yield WrittenNote("arp", 0.5 * (index + 1), scene.plan.beats - 0.5 * (index + 1), pitch + 12, 0.36)
        return
    step = 0.25 if scene.energy > 0.72 and scene.plan.bpm < 140 else 0.5 if scene.energy > 0.25 else 1.0
    order = scene.plan.rng("arp", scene.section.movement).choice(
        ((0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0), (0, 1, 2, 1))
    )
    rng = scene.rng("arp")
    group = 4
    if scene.plan.metre == SIX_EIGHTHS:
        step, group = 0.5, 3
    lift = 12 if scene.centre("arp") >= 72 else 0
    for harmony in scene.harmonies:
        tones = (*harmony.voicing[:3], harmony.voicing[0] + 12)
        for index in range(round(harmony.beats / step)):
            if rng.random() < 0.9:
                accent = 0.1 if index % group == 0 else 0.0
                at = harmony.beat + index * step
                yield WrittenNote("arp", at, step * 0.95, tones[order[index % 4]] + lift, 0.36 + accent)


WRITERS: dict[str, Callable[[Scene], Iterator[WrittenNote]]] = {
    "chords": write_chords,
    "bass": write_bass,
    "pad": write_pad,
    "arp": write_arp,
}


def _bassline(plan: Plan) -> str:
    if plan.metre in _BASS_OF_METRE:
        return _BASS_OF_METRE[plan.metre]
    return "fifths" if plan.metre == 3 and plan.bassline == "roots" else plan.bassline


def _comp(scene: Scene) -> str:
    if scene.plan.metre == SIX_EIGHTHS and scene.section.kind.material != "c" and scene.section.kind is not INTRO:
        return "lilt"
    if scene.plan.metre == 3 and scene.plan.comp not in {"arpeggio", "broken", "alberti", "sparse"}:
        return "waltz"
    if scene.section.kind.material == "c" or scene.section.kind is INTRO:
        return "block" if scene.plan.comp not in {"arpeggio", "broken", "alberti", "strum"} else scene.plan.comp
    return scene.plan.comp


def _cells(scene: Scene, pattern: _Pattern) -> Iterator[_Cell]:
    """The pattern over every bar, cut where the chord changes or the section ends."""
    beats = scene.plan.beats
    for bar in range(scene.section.bars):
        for at, length, tone, velocity in pattern:
            if at >= beats:
                continue
            beat = bar * beats + at
            harmony = scene.harmony_at(beat)
            room = harmony.beat + harmony.beats - beat
            yield _Cell(harmony, beat, min(length, room), tone, velocity)
    struck = {round(bar * beats + at, 6) for bar in range(scene.section.bars) for at, *_ in pattern}
    for harmony in scene.harmonies:  # a chord that begins inside a bar is struck even where the pattern rests
        if harmony.beat % beats and round(harmony.beat, 6) not in struck:
            yield _Cell(harmony, harmony.beat, harmony.beats * 0.95, pattern[0][2], pattern[0][3])


def _bass_tone(scene: Scene, cell: _Cell, root: int) -> int:
    chord = cell.harmony.chord
    if cell.beat == cell.harmony.beat:
        return root
    if cell.tone == 3:
        return root + 12
    pitch = scene.key.pitch(chord.degrees[cell.tone % 3], chord)
    return root + (pitch - root) % 12 - (12 if (pitch - root) % 12 > 7 else 0)


def _in_scale(scene: Scene, cell: _Cell, pitch: int) -> int:
    chord = cell.harmony.chord
    scale = {scene.key.pitch(step, chord) % 12 for step in range(7)}
    return pitch if pitch % 12 in scale else pitch + 1


def _near(pitch: int, centre: int) -> int:
    """`pitch` in the octave around `centre`."""
    return centre - 6 + (pitch - centre + 6) % 12
