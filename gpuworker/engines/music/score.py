"""Turns a section, written in beats, into notes in seconds, with swing, human timing and a stereo position."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import NamedTuple

from gpuworker.engines.music.drums import write_drums
from gpuworker.engines.music.form import Form
from gpuworker.engines.music.melody import write_counter, write_lead
from gpuworker.engines.music.mood import SIX_EIGHTHS, Plan
from gpuworker.engines.music.orchestra import INSTRUMENTS
from gpuworker.engines.music.parts import WRITERS
from gpuworker.engines.music.scene import Scene, WrittenNote, make_scene
from gpuworker.engines.music.sections import END, INTRO, Section

#: Longest time that a note may sound after its section has ended, reverb and echo apart.
LONGEST_TAIL_S = 6.0
#: Most that a note may come before its place.
EARLIEST_S = 0.05
_PANS = {"lead": 0.12, "chords": -0.28, "pad": 0.0, "arp": 0.45, "bass": 0.0, "counter": -0.4}
_BALANCE = {"lead": 1.0, "chords": 0.62, "pad": 0.5, "arp": 0.5, "bass": 0.95, "counter": 0.42}


class Note(NamedTuple):
    """A note in time, ready to be played."""

    start_s: float
    #: Seconds until the key is released.
    dur_s: float
    #: MIDI number.
    pitch: int
    #: 0 … 1.
    velocity: float
    #: -1 left … 1 right.
    pan: float
    voice: str
    #: Loudness of its part in the mix.
    level: float


class Hit(NamedTuple):
    """A drum stroke in time, ready to be played."""

    #: First frame.
    frame: int
    sound: str
    velocity: float
    #: Index of the take of the sound.
    take: int


@dataclass(frozen=True, slots=True)
class Part:
    """Everything that sounds in a section, in order of time."""

    notes: tuple[Note, ...]
    hits: tuple[Hit, ...]


def compose(plan: Plan, form: Form, section: Section, rate_hz: int) -> Part:
    """Write a section down and place it in time; a pure function of its arguments."""
    stage = make_scene(plan, section)
    first_beat = float(section.first_bar * plan.beats)
    hand = stage.rng("hand")
    notes = tuple(sorted(_note(plan, form, section, event, first_beat, hand) for event in _events(stage)))
    strokes = []
    for stroke in write_drums(stage):
        second = _second(plan, form, first_beat + stroke.beat) + _lateness(hand, plan.style.loose_s * 0.5)
        frame = max(0, round(second * rate_hz))
        force = min(1.0, stroke.velocity * (0.55 + 0.5 * plan.energy))
        strokes.append(Hit(frame, stroke.sound, force, hand.randrange(3)))
    return Part(notes, tuple(sorted(strokes)))


def _events(stage: Scene) -> Iterator[WrittenNote]:
    for role, write in WRITERS.items():
        if stage.plays(role):
            yield from _entering(stage, role, write(stage))
    if stage.plays("lead"):
        yield from write_lead(stage)
    elif stage.section.kind is INTRO and "lead" in stage.plan.voices and stage.section.bars >= 2:
        yield from _pickup(stage)
    if "counter" in stage.section.kind.roles and "pad" in stage.plan.voices and stage.energy > 0.3:
        yield from write_counter(stage)


def _entering(stage: Scene, role: str, events: Iterator[WrittenNote]) -> Iterator[WrittenNote]:
    """In an intro the players enter one after another; a lone one begins at once."""
    if stage.section.kind is not INTRO:
        return events
    present = [name for name in ("pad", "chords", "arp") if name in stage.plan.voices]
    waits = present.index(role) * stage.beats / 3 if role in present else 0.0
    return (event for event in events if event.beat >= waits - 1e-9)


def _pickup(stage: Scene) -> Iterator[WrittenNote]:
    """The intro's last beat runs up to the tune's first note."""
    start = stage.beats - 1.0
    chord = stage.harmonies[-1].chord
    home = stage.key.step_near(stage.centre("lead"))
    for index, step in enumerate((-2, -1)):
        yield WrittenNote("lead", start + 0.5 * index, 0.45, stage.key.pitch(home + step, chord), 0.5 + 0.08 * index)


def _note(plan: Plan, form: Form, section: Section, event: WrittenNote, first_beat: float, hand: Random) -> Note:
    voice = plan.voices["pad" if event.role == "counter" else event.role]
    start_s = _second(plan, form, first_beat + event.beat)
    until = first_beat + event.beat + event.beats
    end_s = form.seconds if section.kind is END else _second(plan, form, until)
    late_s = _lateness(hand, plan.style.loose_s * (0.5 if event.role == "bass" else 1.0))
    velocity = min(1.0, max(0.05, event.velocity + hand.uniform(-0.04, 0.04)))
    pan = _PANS[event.role]
    if event.role in {"chords", "pad"}:
        pan += 0.05 * (event.pitch - 64)
    level = _BALANCE[event.role]
    if event.role == "pad" and not INSTRUMENTS[voice].sustains:
        level *= 1.3
    start_s = max(0.0, start_s + late_s)
    return Note(start_s, max(0.03, end_s - start_s), event.pitch, velocity, max(-0.85, min(0.85, pan)), voice, level)


def _lateness(hand: Random, loose_s: float) -> float:
    """Human error in seconds, never beyond `EARLIEST_S` either way."""
    return max(-0.9 * EARLIEST_S, min(0.9 * EARLIEST_S, hand.gauss(0.0, loose_s)))


def _second(plan: Plan, form: Form, beat: float) -> float:
    """The beat in seconds, its off-beats swung."""
    whole = math.floor(beat)
    part = beat - whole
    swing = 0.0 if plan.metre == SIX_EIGHTHS else plan.style.swing  # its groups begin on the half of a quarter
    swung = part * (0.5 + swing) / 0.5 if part < 0.5 else 0.5 + swing + (part - 0.5) * (0.5 - swing) / 0.5
    return form.second(whole + swung)


class Scores:
    """The sections that sound around a moment, composed when first needed. Keeps a handful."""

    def __init__(self, plan: Plan, form: Form, rate_hz: int) -> None:
        self._plan = plan
        self._form = form
        self._rate_hz = rate_hz
        self._parts: dict[int, Part] = {}

    @property
    def num_kept(self) -> int:
        """Composed sections that are kept."""
        return len(self._parts)

    def between(self, start_s: float, end_s: float) -> Part:
        """All notes and hits that may sound in [start_s, end_s), in a fixed order."""
        first = self._form.section_at_bar(self._form.bar_at(max(0.0, start_s - LONGEST_TAIL_S)))
        parts, section = [], first
        while True:
            parts.append(self._part(section))
            following = section.first_bar + section.bars
            if section.kind is END or self._form.second(float(following * self._form.beats)) - EARLIEST_S > end_s:
                break
            section = self._form.section_at_bar(following)
        for index in [index for index in self._parts if index < first.index]:
            del self._parts[index]
        return Part(
            tuple(chain.from_iterable(part.notes for part in parts)),
            tuple(chain.from_iterable(part.hits for part in parts)),
        )

    def _part(self, section: Section) -> Part:
        if section.index not in self._parts:
            self._parts[section.index] = compose(self._plan, self._form, section, self._rate_hz)
        return self._parts[section.index]
