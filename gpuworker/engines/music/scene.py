"""The scene of a section, shared by all its players: the chords of its bars, how they are voiced, and who plays."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from gpuworker.engines.music.mood import SIX_EIGHTHS, Plan
from gpuworker.engines.music.orchestra import INSTRUMENTS
from gpuworker.engines.music.sections import BRIDGE, END, INTRO, OUTRO, Section
from gpuworker.engines.music.theory import Chord, Key, dominant, loop, predominant, voice_lead

_MODULATIONS = (0, 2, 0, -3, 5, 0, -2, 3)


class WrittenNote(NamedTuple):
    """A note of the score. Beats count from the section's start."""

    role: str
    beat: float
    beats: float
    pitch: int
    #: 0 … 1.
    velocity: float


class Stroke(NamedTuple):
    """A drum stroke of the score; its beat counts from the section's start."""

    sound: str
    beat: float
    velocity: float


class Harmony(NamedTuple):
    """A chord and how long it lasts."""

    chord: Chord
    #: Counts from the section's start.
    beat: float
    beats: float
    #: Ascending MIDI numbers.
    voicing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """A section with everything that its players need."""

    plan: Plan
    section: Section
    key: Key
    harmonies: Sequence[Harmony]
    #: 0 … 1: how much happens.
    energy: float

    @property
    def beats(self) -> int:
        """Length of the section."""
        return self.section.bars * self.plan.beats

    def rng(self, *path: object) -> Random:
        """A random source of its own for `path` within the section."""
        return self.plan.rng("section", self.section.index, *path)

    def plays(self, role: str) -> bool:
        """Whether the plan has an instrument for `role` and the section uses it."""
        return role in self.plan.voices and role in self.section.kind.roles

    def harmony_at(self, beat: float) -> Harmony:
        """The harmony that sounds at `beat`."""
        return next(h for h in reversed(self.harmonies) if h.beat <= beat + 1e-9)

    def centre(self, role: str) -> int:
        """Middle of the range of the role's instrument, a MIDI number."""
        return INSTRUMENTS[self.plan.voices[role]].centre


def half_bar(plan: Plan) -> float:
    """The beat in the middle of a bar, or, in three quarters, the second."""
    return 1.5 if plan.metre == SIX_EIGHTHS else 2.0 if plan.metre == 4 else 1.0


def key_of(plan: Plan, section: Section) -> Key:
    """Later movements move to a related key and the outro comes home, unless the prompt or the params name the key."""
    if plan.key_fixed or section.kind in {INTRO, OUTRO, END, BRIDGE}:
        return plan.key
    return plan.key.moved(_MODULATIONS[section.movement % len(_MODULATIONS)])


def make_scene(plan: Plan, section: Section) -> Scene:
    """A pure function of its arguments."""
    key = key_of(plan, section)
    spans = _spans(plan, section)
    centre = 62.0 if plan.voices.get("chords") in {"guitar", "piano", "eguitar"} else 64.0
    voicings = voice_lead(key, (chord for chord, _, _ in spans), centre)
    harmonies = [Harmony(*span, voicing) for span, voicing in zip(spans, voicings, strict=True)]
    energy = min(1.0, max(0.0, plan.energy + section.kind.lift))
    return Scene(plan, section, key, harmonies, energy)


def material(plan: Plan, section: Section) -> tuple[Chord, ...]:
    """The four-chord loop of the section's material; A, B and C of one movement differ."""
    movement = 0 if section.kind in {INTRO, OUTRO, END} else section.movement
    first = loop(plan.rng("loop", movement, "a"), plan.key.mode, plan.style.family, sevenths=plan.style.sevenths)
    if section.kind.material == "a":
        return first
    rng = plan.rng("loop", movement, section.kind.material)
    return loop(rng, plan.key.mode, plan.style.family, sevenths=plan.style.sevenths, avoid=first)


def _spans(plan: Plan, section: Section) -> list[tuple[Chord, float, float]]:
    """(chord, first beat, beats) over the section; cadences where sections meet."""
    beats = float(plan.beats)
    tonic = Chord(0, sevenths=plan.style.sevenths)
    if section.kind is END:
        return [(Chord(0), 0.0, beats)]
    chords = material(plan, section)
    if section.kind is OUTRO:
        chords = (tonic, *chords[1:])
    out = [(chords[bar % 4], bar * beats, beats) for bar in range(section.bars)]
    home = dominant(plan.key.mode, sevenths=plan.style.sevenths)
    last = (section.bars - 1) * beats
    if section.kind is OUTRO:
        half = half_bar(plan)
        out[-1:] = [(predominant(sevenths=plan.style.sevenths), last, half), (home, last + half, beats - half)]
    elif section.kind in {INTRO, BRIDGE} or section.kind.material == "c":
        out[-1] = (home, last, beats)
    elif section.bars >= 4 and out[-1][0].degree == 0:
        half = half_bar(plan)
        out[-1:] = [(out[-1][0], last, half), (home, last + half, beats - half)]
    return out
