"""Tunes: a motif of one bar, stated, answered, developed and brought to rest. Steps are scale steps."""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from gpuworker.engines.music.mood import SIX_EIGHTHS
from gpuworker.engines.music.scene import Scene, WrittenNote, half_bar
from gpuworker.engines.music.sections import END, INTRO, OUTRO
from gpuworker.engines.music.theory import Chord

#: One-bar rhythms in beats, by metre, from restful to busy; a negative length is a rest.
_RHYTHMS: dict[int, tuple[tuple[tuple[float, ...], ...], ...]] = {
    4: (
        ((2, 2), (3, 1), (1, 3), (2, 1, 1), (-1, 1, 2)),
        ((1, 1, 2), (1.5, 0.5, 1, 1), (1, 0.5, 0.5, 2), (-0.5, 0.5, 1, 2), (2, 1, 1), (1.5, 1.5, 1)),
        (
            (0.5, 0.5, 1, 1, 1),
            (1.5, 0.5, 1, 0.5, 0.5),
            (-0.5, 0.5, 0.5, 0.5, 2),
            (0.5, 1, 0.5, 1, 1),
            (0.75, 0.75, 0.5, 1, 1),
        ),
        ((0.5, 0.5, 0.5, 0.5, 1, 1), (0.75, 0.75, 0.5, 0.75, 0.75, 0.5), (-0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1)),
    ),
    3: (
        ((3,), (2, 1), (-1, 2)),
        ((1, 1, 1), (2, 0.5, 0.5), (1.5, 0.5, 1)),
        ((1, 0.5, 0.5, 1), (0.5, 0.5, 1, 1), (1.5, 0.5, 0.5, 0.5)),
        ((0.5, 0.5, 0.5, 0.5, 1), (1, 0.5, 0.5, 0.5, 0.5)),
    ),
}
_RHYTHMS |= {
    2: (
        ((2,), (1, 1)),
        ((1, 1), (1.5, 0.5), (-0.5, 0.5, 1)),
        ((0.5, 0.5, 1), (1, 0.5, 0.5), (0.75, 0.25, 1)),
        ((0.5, 0.5, 0.5, 0.5), (0.25, 0.25, 0.5, 1), (-0.5, 0.5, 0.5, 0.5)),
    ),
    SIX_EIGHTHS: (
        ((3,), (1.5, 1.5)),
        ((1.5, 1, 0.5), (1, 0.5, 1.5), (-1.5, 1, 0.5)),
        ((1, 0.5, 1, 0.5), (1, 0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 1.5)),
        ((0.5, 0.5, 0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 1, 0.5), (0.75, 0.25, 0.5, 1, 0.5)),
    ),
}
#: Beats from one strong beat to the next.
_STRONG: dict[int, float] = {2: 2, 3: 3, 4: 2, SIX_EIGHTHS: 1.5}
_STEPS = (-2, -1, -1, -1, 1, 1, 1, 2, 0)
#: The anchor of each bar of a phrase, in steps: arches, climbs and falls.
_ARCHES = ((0, 1, 2, 0), (0, 2, 1, -1), (0, -1, 1, 0), (0, 1, 3, 1), (2, 1, 0, -1), (0, 0, 2, 0))


class Motif(NamedTuple):
    """Parallel tuples: lengths in beats (negative: a rest) and steps from the bar's anchor."""

    rhythm: tuple[float, ...]
    steps: tuple[int, ...]


def motif(rng: Random, metre: int, energy: float) -> Motif:
    """One bar of tune. A leap is followed by a step back."""
    ladder = _RHYTHMS[metre]
    level = min(len(ladder) - 1, int(energy * len(ladder)))
    rhythm = rng.choice(ladder[level] + (ladder[level - 1] if level else ()))
    steps, here = [], 0
    for index in range(len(rhythm)):
        steps.append(here)
        move = rng.choice(_STEPS)
        if index == 1 and rng.random() < 0.35:
            move = rng.choice((3, 4, -3))
        elif index == 2 and abs(steps[-1] - steps[-2]) > 2:
            move = -1 if steps[-1] > steps[-2] else 1
        here = max(-4, min(5, here + move))
    return Motif(rhythm, tuple(steps))


def inverted(source: Motif) -> Motif:
    """The same rhythm with every step turned upside down."""
    return Motif(source.rhythm, tuple(-step for step in source.steps))


def ornamented(source: Motif, rng: Random) -> Motif:
    """The longest note becomes a note, its neighbour and the note again."""
    longest = max(range(len(source.rhythm)), key=lambda index: source.rhythm[index])
    length, step = source.rhythm[longest], source.steps[longest]
    if length < 1:
        return source
    turn = rng.choice((1, -1))
    lengths = (length / 2, length / 4, length / 4)
    return Motif(
        (*source.rhythm[:longest], *lengths, *source.rhythm[longest + 1 :]),
        (*source.steps[:longest], step, step + turn, step, *source.steps[longest + 1 :]),
    )


def write_lead(scene: Scene) -> Iterator[WrittenNote]:
    """The tune of the section: phrases of four bars, the first open, the second closed."""
    section, plan = scene.section, scene.plan
    if section.kind is END:
        yield from _last_note(scene)
        return
    source = _motif_of(scene)
    arch = plan.rng("arch", section.movement, section.kind.material).choice(_ARCHES)
    home = scene.key.step_near(scene.centre("lead") + (5 if section.kind.material == "b" else 0))
    phrase_bars = min(4, section.bars)
    anchor = home
    for bar in range(section.bars):
        place = bar % phrase_bars
        is_last = place == phrase_bars - 1 or bar == section.bars - 1
        anchor = _chord_step(scene, bar * plan.beats, home + arch[place % 4])
        if is_last and section.bars > 1:
            yield from _cadence(scene, bar, anchor, answers=bar == section.bars - 1)
        else:
            yield from _state(scene, bar, anchor, _developed(scene, source, place))


def write_counter(scene: Scene) -> Iterator[WrittenNote]:
    """A second voice in long notes: thirds and sevenths of the chords, low enough to stay out of the tune's way."""
    centre = 60
    previous = centre
    for harmony in scene.harmonies:
        guide = harmony.chord.degrees[1] if not harmony.chord.sevenths else harmony.chord.degrees[3]
        pitch = scene.key.pitch(guide, harmony.chord) % 12
        previous = min(range(centre - 7 + (pitch - centre + 7) % 12, 73, 12), key=lambda p: abs(p - previous))
        yield WrittenNote("counter", harmony.beat, harmony.beats * 0.97, previous, 0.5)


def _motif_of(scene: Scene) -> Motif:
    """The motif of the section, equal for all sections of one material in a movement: so a tune recurs."""
    section = scene.section
    movement = 0 if section.kind in {INTRO, OUTRO, END} else section.movement
    lively = scene.plan.energy + 0.08 - (0.25 if section.kind.material == "c" else 0.0)
    return motif(scene.plan.rng("motif", movement, section.kind.material), scene.plan.metre, max(0.0, lively))


def _developed(scene: Scene, source: Motif, place: int) -> Motif:
    """Bars of a phrase: statement, answer in sequence, development."""
    name = scene.section.kind.name
    if place == 2:
        return inverted(source)
    if place == 1 and name in {"A'", "A''", "B'"}:
        return ornamented(source, scene.plan.rng("turn", scene.section.movement, name))
    return source


def _state(scene: Scene, bar: int, anchor: int, source: Motif) -> Iterator[WrittenNote]:
    beat = float(bar * scene.plan.beats)
    rng = scene.rng("lead", bar)
    for length, step in zip(source.rhythm, source.steps, strict=True):
        if length > 0:
            strong = beat % _STRONG[scene.plan.metre] == 0
            target = _chord_step(scene, beat, anchor + step) if strong else anchor + step
            accent = 0.08 if beat % scene.plan.beats == 0 else 0.0
            yield _event(scene, beat, length * 0.94, target, 0.68 + accent + 0.08 * rng.random())
        beat += abs(length)


def _cadence(scene: Scene, bar: int, anchor: int, *, answers: bool) -> Iterator[WrittenNote]:
    """Two notes lead into a long one; a phrase that answers rests on the chord's root or third, then breathes."""
    beat, beats = float(bar * scene.plan.beats), scene.plan.beats
    long_at = beat + half_bar(scene.plan)
    chord = scene.harmony_at(long_at).chord
    roots = [chord.degree, chord.degree + 2] if answers else [chord.degree + 4, chord.degree + 2]
    rest = min((d + 7 * octave for d in roots for octave in range(3, 9)), key=lambda step: abs(step - anchor))
    lead_in = 1 if rest <= anchor else -1
    first = (
        [(beat, 1.0, rest + 2 * lead_in), (beat + 1, 1.0, rest + lead_in)]
        if beats == 4
        else [(beat, 1.0, rest + lead_in)]
    )
    for at, length, step in first:
        yield _event(scene, at, length * 0.94, step, 0.66)
    yield _event(scene, long_at, beats - (long_at - beat) - 0.5, rest, 0.7)


def _last_note(scene: Scene) -> Iterator[WrittenNote]:
    home = scene.key.step_near(scene.centre("lead"))
    tonic = min((7 * octave for octave in range(3, 9)), key=lambda step: abs(step - home))
    yield _event(scene, 0.0, float(scene.plan.beats), tonic, 0.66)


def _chord_step(scene: Scene, beat: float, near: int) -> int:
    """The step of the sounding chord's triad that is nearest to `near`."""
    chord = scene.harmony_at(beat).chord
    return min(_triad_steps(chord), key=lambda step: (abs(step - near), step))


def _triad_steps(chord: Chord) -> list[int]:
    return [degree + 7 * octave for degree in chord.degrees[:3] for octave in range(2, 9)]


def _event(scene: Scene, beat: float, beats: float, step: int, velocity: float) -> WrittenNote:
    chord = scene.harmony_at(beat).chord
    return WrittenNote("lead", beat, beats, scene.key.pitch(step, chord), velocity)
