"""Scales, chords and how one chord moves to the next. Pitches are MIDI numbers; degrees count scale steps from 0."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
SHARPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FLATS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

#: Chord loops by mode and family. A digit is a degree from 1; `+` raises the scale's seventh (a true dominant).
_LOOPS: dict[str, dict[str, tuple[str, ...]]] = {
    "major": {
        "any": ("1 5 6 4", "1 6 4 5", "6 4 1 5", "1 4 6 5", "1 3 4 5", "4 1 5 6"),
        "jazz": ("2 5 1 6", "1 6 2 5", "3 6 2 5", "1 4 3 6"),
        "classical": ("1 5 6 3", "1 4 5 1", "1 2 5 1", "1 6 2 5", "4 1 5 1"),
        "calm": ("1 4 1 4", "1 3 4 4", "1 6 4 1", "4 1 6 5", "1 2 4 1"),
        "epic": ("6 4 1 5", "1 5 2 4", "4 6 1 5"),
    },
    "minor": {
        "any": ("1 6 3 7", "1 4 6 5+", "1 7 6 5+", "1 6 4 5+", "1 3 7 4", "6 7 1 1"),
        "jazz": ("2 5+ 1 1", "1 4 2 5+", "4 7 3 6"),
        "classical": ("1 4 5+ 1", "1 6 4 5+", "1 5+ 1 4", "4 1 5+ 1"),
        "calm": ("1 6 1 7", "1 3 6 7", "1 4 1 6", "6 3 7 1"),
        "epic": ("1 6 3 7", "1 4 6 5+", "6 7 1 3", "1 3 6 7"),
    },
    "dorian": {"any": ("1 4 1 4", "1 3 4 1", "1 7 4 1", "1 2 4 1")},
    "phrygian": {"any": ("1 2 1 7", "1 2 3 2", "1 7 2 1")},
    "lydian": {"any": ("1 2 1 5", "1 2 6 2", "1 5 2 1")},
    "mixolydian": {"any": ("1 7 4 1", "1 4 7 1", "1 7 4 4")},
}


@dataclass(frozen=True, slots=True)
class Chord:
    """A stack of thirds on `degree` (0 … 6) of the scale."""

    degree: int
    #: The scale's seventh note is a leading note while this chord sounds.
    leading: bool = False
    sevenths: bool = False

    @property
    def degrees(self) -> tuple[int, ...]:
        """Scale steps of its tones, the root first."""
        return tuple(self.degree + step for step in ((0, 2, 4, 6) if self.sevenths else (0, 2, 4)))


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic and a mode."""

    #: Pitch class of the tonic, 0 (C) … 11.
    tonic: int
    mode: str

    @property
    def is_dark(self) -> bool:
        """Whether the mode has a minor third."""
        return self.mode in {"minor", "dorian", "phrygian"}

    @property
    def name(self) -> str:
        """Spelt as a musician would: flats on the flat side of the circle of fifths."""
        flat_side = (self.tonic + 3) % 12 in {1, 3, 5, 6, 8, 10} if self.is_dark else self.tonic in {1, 3, 5, 8, 10}
        return (FLATS if flat_side else SHARPS)[self.tonic]

    def pitch(self, step: int, chord: Chord) -> int:
        """The MIDI number of scale step `step` (0: the tonic of octave 0) under `chord`."""
        octave, degree = divmod(step, 7)
        raised = 11 if chord.leading and degree == 6 else SCALES[self.mode][degree]
        return self.tonic + 12 * octave + raised

    def step_near(self, pitch: float) -> int:
        """The scale step whose pitch is about `pitch`."""
        return round((pitch - self.tonic) * 7 / 12)

    def moved(self, semitones: int) -> "Key":
        """The same mode `semitones` higher."""
        return Key((self.tonic + semitones) % 12, self.mode)


def pitch_class(name: str) -> int:
    """`C`, `F#`, `Bb`, `e♭` … as 0 … 11.

    Raises:
        KeyError: for a letter outside A … G.
    """
    shift = sum({"#": 1, "♯": 1, "b": -1, "♭": -1}[sign] for sign in name[1:])
    return (_LETTERS[name[0].upper()] + shift) % 12


def loop(rng: Random, mode: str, family: str, *, sevenths: bool, avoid: Sequence[Chord] = ()) -> tuple[Chord, ...]:
    """Four chords to repeat; not those of `avoid` where the family has others."""
    families = _LOOPS[mode]
    choices = [parse(text, sevenths=sevenths) for text in families.get(family, families["any"])]
    fresh = [chords for chords in choices if chords != tuple(avoid)]
    return rng.choice(fresh or choices)


def parse(text: str, *, sevenths: bool) -> tuple[Chord, ...]:
    """`1 4 5+` as chords."""
    return tuple(Chord(int(token[0]) - 1, "+" in token, sevenths) for token in text.split())


def dominant(mode: str, *, sevenths: bool) -> Chord:
    """The chord that leads to the tonic: V, with its leading note where needed; in phrygian the one above the tonic."""
    if mode == "phrygian":
        return Chord(1, sevenths=sevenths)
    return Chord(4, mode in {"minor", "dorian", "mixolydian"}, sevenths)


def predominant(*, sevenths: bool) -> Chord:
    """IV, which leads to the dominant."""
    return Chord(3, sevenths=sevenths)


def voice_lead(key: Key, chords: Iterable[Chord], centre: float) -> list[tuple[int, ...]]:
    """A close voicing per chord, each the nearest to the one before; pitches ascending, about `centre`."""
    out: list[tuple[int, ...]] = []
    for chord in chords:
        pitches = sorted({key.pitch(step, chord) % 12 for step in chord.degrees})
        options = list(_inversions(pitches, centre))
        before = out[-1] if out else None
        out.append(min(options, key=lambda option: (_effort(before, option, centre), option)))
    return out


def _inversions(classes: list[int], centre: float) -> Iterable[tuple[int, ...]]:
    for lowest in range(round(centre) - 11, round(centre) + 3):
        if lowest % 12 in classes:
            yield tuple(sorted(lowest + (pitch - lowest) % 12 for pitch in classes))


def _effort(before: tuple[int, ...] | None, after: tuple[int, ...], centre: float) -> float:
    drift = abs(sum(after) / len(after) - centre)
    if before is None:
        return drift
    moves = sum(min(abs(pitch - old) for old in before) for pitch in after)
    return moves + abs(after[-1] - before[-1]) + 0.4 * drift
