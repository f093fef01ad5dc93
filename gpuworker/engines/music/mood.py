"""Turns a prompt into a `Plan`: tempo, key, metre, style, players. Explicit words win over the mood."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from gpuworker.engines.music.orchestra import INSTRUMENTS
from gpuworker.engines.music.styles import MOODS, STYLES, Mood, Style
from gpuworker.engines.music.theory import Key, pitch_class

BPM_MIN, BPM_MAX = 30, 300

_BPM = re.compile(r"(\d{2,3})\s*(?:bpm\b|beats per minute)", re.IGNORECASE)
_METRE = re.compile(r"\b([2346])\s*/\s*[48]\b")
#: The metre of two groups of three eighths.
SIX_EIGHTHS = 6
_WALTZ = "waltz* walzer* valse* vals 3/4 minuet* menuett* three-four"
_MODE_WORDS = {
    "major": "major maj dur majeur mayor ionian",
    "minor": "minor min moll mineur menor aeolian",
    "dorian": "dorian dorisch dorien dorico",
    "phrygian": "phrygian phrygisch phrygien frigio",
    "lydian": "lydian lydisch lydien lidio",
    "mixolydian": "mixolydian mixolydisch mixolydien mixolidio",
}
_MODE_OF = {word: mode for mode, words in _MODE_WORDS.items() for word in words.split()}
_MODES = "|".join(sorted(_MODE_OF, key=len, reverse=True))
#: Any key that `parse_key` knows, as a regular expression of JSON Schema too.
KEY_PATTERN = (
    r"^\s*[A-Ga-g]([#♯b♭]|[ -]?([Ss][Hh][Aa][Rr][Pp]|[Ff][Ll][Aa][Tt]))?\s*-?\s*([mM]|"
    + "|".join("".join(f"[{c.upper()}{c}]" for c in word) for word in sorted(_MODE_OF, key=len, reverse=True))
    + r")?\s*$"
)
_KEY = re.compile(
    rf"\s*(?P<letter>[A-Ga-g])(?P<sign>[#♯b♭]|[ -]?(?i:sharp|flat)|)\s*-?\s*(?P<mode>(?i:{_MODES})|[mM])?\s*"
)
_SOLFEGE = {"do": "C", "ut": "C", "re": "D", "mi": "E", "fa": "F", "sol": "G", "la": "A", "si": "B"}
_GERMAN = {
    "cis": "C#",
    "dis": "D#",
    "es": "Eb",
    "fis": "F#",
    "gis": "G#",
    "as": "Ab",
    "ges": "Gb",
    "des": "Db",
    "h": "B",
}
_NAMED = "|".join(sorted([*_SOLFEGE, *_GERMAN], key=len, reverse=True))
#: `D minor`, `F# major`, `b-moll`, `re menor`; a bare letter counts only as a capital after "in" or "key of".
_KEY_WITH_MODE = re.compile(
    rf"\b({_NAMED}|[a-g])(\s*[#♯b♭]|[\s-](?:sharp|flat|diese|bemol|sostenido))?[\s-]*\b({_MODES})\b", re.IGNORECASE
)
_KEY_BARE = re.compile(
    r"\b(?:[Ii]n|[Kk]ey of|[Ee]n|[Kk]ey:?|[Tt]onart)\s+([A-G])(#|♯|b|♭|\s+sharp|\s+flat)?(?=$|[\s,.;!?])"
)
_NEGATED = re.compile(
    r"\b(?:no|without|ohne|kein|keine|sans|pas de|sin|minus)\s+(?:any\s+|the\s+)?([\w-]+)"
    r"(?:\s+(?:or|oder|ou|o|and)\s+([\w-]+))?"
)
_DRUMS = (
    "drum drums drumm* drumbeat* percuss* perkussi* beat beats schlagzeug* trommel* batteri* bateri* tambor* "
    "groove* rhythm*"
)
_BASS = "bass basse bajo bassline*"
_MELODY = "melody melodies lead melodi*"
#: The style for a prompt that names an instrument and neither a style nor a mood.
_SUITED = {
    "strings": "classical", "violin": "classical", "cello": "classical", "clarinet": "classical", "organ": "classical",
    "harp": "classical", "piano": "ballad", "epiano": "lofi", "guitar": "folk", "flute": "folk", "accordion": "folk",
    "choir": "cinematic", "brass": "cinematic", "eguitar": "rock", "sax": "jazz", "trumpet": "jazz", "lead": "house",
}  # fmt: skip
_SOLO = "solo only alone nur allein* seul seule seulement solamente unaccompanied"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides a piece except its length. Every bar is a function of it."""

    #: Root of every random choice, as hex.
    seed: str
    style_name: str
    style: Style
    bpm: float
    key: Key
    #: 2, 3 or 4 quarters in a bar, or 6 eighths in two groups.
    metre: int
    #: 0 … 1.
    energy: float
    #: Groove name; empty: no drums.
    groove: str
    #: Role (lead, chords, pad, arp, bass) to instrument.
    voices: Mapping[str, str]
    #: The prompt or the params name the key, so the piece does not leave it.
    key_fixed: bool
    comp: str
    bassline: str

    @property
    def beats(self) -> int:
        """Quarters in a bar."""
        return 3 if self.metre == SIX_EIGHTHS else self.metre

    def rng(self, *path: object) -> Random:
        """A random source of its own for `path`: the draws of one bar never shift another's."""
        return Random("/".join([self.seed, *map(str, path)]))


def plan(prompt: str, seed: int, bpm: float | None = None, key: str | None = None, metre: int | None = None) -> Plan:
    """The plan of the piece that `prompt` describes; equal arguments give equal plans.

    Raises:
        ValueError: `key` is no key; see `parse_key`.
    """
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode()).hexdigest()[:32]
    rng = Random(digest)
    text = plain(prompt)
    wanted_words, refused_words = _split_negations(text)
    mood = _best(MOODS, wanted_words)
    style_name = _style_name(wanted_words, mood, rng)
    style = STYLES[style_name]
    bend = MOODS[mood] if mood else Mood("", (), style_name)
    fixed = parse_key(key) if key else _key_in(prompt, text)
    tonic, mode = _key(fixed, text, bend, style, rng)
    fixed_bpm = bpm or _bpm_in(text)
    drawn_bpm = rng.randint(*style.bpm) * bend.tempo
    energy = min(1.0, max(0.05, style.energy + bend.energy))
    return Plan(
        seed=digest,
        style_name=style_name,
        style=style,
        bpm=fixed_bpm or float(round(min(BPM_MAX, max(BPM_MIN, drawn_bpm)))),
        key=Key(tonic, mode),
        metre=metre or _metre_in(text, style),
        energy=energy,
        groove=_groove(style, wanted_words, refused_words),
        voices=_voices(style, wanted_words, refused_words, rng),
        key_fixed=fixed is not None,
        comp=rng.choice(style.comp),
        bassline=rng.choice(style.bassline),
    )


def plain(prompt: str) -> str:
    """Lower case, accents off, `lo-fi` and `hip hop` as one word each."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", prompt.lower()) if not unicodedata.combining(c))
    for spelt, word in (
        ("lo fi", "lofi"),
        ("lo-fi", "lofi"),
        ("hip hop", "hiphop"),
        ("8 bit", "8-bit"),
        ("music box", "musicbox"),
    ):
        bare = bare.replace(spelt, word)
    return bare.replace("electric piano", "epiano").replace("electric guitar", "overdriven")


def parse_key(text: str) -> tuple[int, str | None]:
    """Pitch class and mode (None: not given) of `C`, `F#`, `Bb minor`, `Am`, `B-flat Major`.

    Raises:
        ValueError: with the forms that are keys.
    """
    found = _KEY.fullmatch(text)
    if not found:
        raise ValueError(f"a key is a letter A to G, perhaps # or b, perhaps a mode, as in 'Bb minor', not {text!r}")
    letter, sign, mode = found["letter"], found["sign"].strip(" -").lower(), found["mode"]
    sign = {"sharp": "#", "flat": "b"}.get(sign, sign)
    return pitch_class(letter + sign), {"m": "minor", "M": "major"}.get(mode) or _MODE_OF[
        mode.lower()
    ] if mode else None


def named(words: Sequence[str], stems: str) -> int:
    """How many of `words` match one of `stems` (`*` ends a stem)."""
    exact = {stem for stem in stems.split() if not stem.endswith("*")}
    starts = tuple(stem[:-1] for stem in stems.split() if stem.endswith("*"))
    return sum(word in exact or (bool(starts) and word.startswith(starts)) for word in words)


def _split_negations(text: str) -> tuple[list[str], list[str]]:
    refused = [word for pair in _NEGATED.findall(text) for word in pair if word]
    return re.findall(r"[\w/#-]+", _NEGATED.sub(" ", text)), refused


def _best(table: Mapping[str, Mood] | Mapping[str, Style], words: Sequence[str]) -> str:
    scores = {name: named(words, entry.words) for name, entry in table.items()}
    top = max(scores, key=lambda name: scores[name])
    return top if scores[top] else ""


def _style_name(words: Sequence[str], mood: str, rng: Random) -> str:
    fallback = rng.choice(("pop", "folk", "cinematic", "lofi", "ballad"))
    if named_style := _best(STYLES, words):
        return named_style
    if mood:
        return MOODS[mood].style
    suited = (style for name, style in _SUITED.items() if named(words, INSTRUMENTS[name].words))
    return "classical" if named(words, _WALTZ) else next(suited, fallback)


def _key_in(prompt: str, text: str) -> tuple[int, str | None] | None:
    for found in _KEY_WITH_MODE.finditer(text):
        letter, shift, mode = found.groups()
        bare_a = letter == "a" and shift is None and "-" not in found[0]
        if bare_a and not re.search(r"\bA\s", prompt) and "in a " not in text:
            continue  # "a minor detail" names no key
        name = _SOLFEGE.get(letter) or _GERMAN.get(letter) or letter
        if letter == "b" and mode in {"dur", "moll"}:
            name = "Bb"
        sign = {"#": "#", "♯": "#", "b": "b", "♭": "b", "sharp": "#", "flat": "b"}.get((shift or "").strip(" -"), "")
        sign = sign or (
            "#" if "di" in (shift or "") or "so" in (shift or "") else "b" if "bemol" in (shift or "") else ""
        )
        return pitch_class(name + sign), _MODE_OF[mode]
    if bare := _KEY_BARE.search(prompt):
        sign = {"sharp": "#", "flat": "b"}.get((bare[2] or "").strip(), (bare[2] or "").strip())
        return pitch_class(bare[1] + sign), None
    return None


def _key(fixed: tuple[int, str | None] | None, text: str, mood: Mood, style: Style, rng: Random) -> tuple[int, str]:
    drawn_tonic = rng.choice((0, 2, 4, 5, 7, 9, 11, 3, 10))
    drawn_mode = rng.choice(mood.modes or style.modes)
    given = next((_MODE_OF[word] for word in re.findall(r"[a-z]+", text) if word in _MODE_OF and len(word) > 3), None)
    if fixed is None:
        return drawn_tonic, given or drawn_mode
    return fixed[0], fixed[1] or given or drawn_mode


def _bpm_in(text: str) -> float | None:
    found = _BPM.search(text)
    return float(min(BPM_MAX, max(BPM_MIN, int(found[1])))) if found else None


def _metre_in(text: str, style: Style) -> int:
    if found := _METRE.search(text):
        return int(found[1])
    return 3 if named(re.findall(r"[\w/-]+", text), _WALTZ) else style.beats


def _groove(style: Style, wanted: Sequence[str], refused: Sequence[str]) -> str:
    if named(refused, _DRUMS) or (named(wanted, _SOLO) and not named(wanted, _DRUMS)):
        return ""
    return style.groove or ("ballad" if named(wanted, _DRUMS) else "")


def _voices(style: Style, wanted: Sequence[str], refused: Sequence[str], rng: Random) -> dict[str, str]:
    banned = {name for name, entry in INSTRUMENTS.items() if named(refused, entry.words)}
    wanted_names = [
        name
        for word in wanted
        for name, entry in INSTRUMENTS.items()
        if named([word], entry.words) and name not in banned
    ]
    voices: dict[str, str] = {}
    if style is STYLES["rock"]:
        wanted_names = ["eguitar" if name == "guitar" else name for name in wanted_names]
    for name in dict.fromkeys(wanted_names):
        free = [role for role in INSTRUMENTS[name].roles if role not in voices]
        if free:
            voices[free[0]] = name
    only_wanted = bool(voices) and named(wanted, _SOLO)
    if len(voices) == 1:  # one instrument named: it leads, and accompanies itself where it can
        name = next(iter(voices.values()))
        voices |= {role: name for role in ("chords", "lead") if role in INSTRUMENTS[name].roles}
        if only_wanted and "bass" in INSTRUMENTS[name].roles:
            voices["bass"] = name
    for role in ("lead", "chords", "pad", "bass", "arp"):
        allowed = [name for name in getattr(style, role) if name not in banned]
        fresh = [name for name in allowed if name not in voices.values()]
        drawn = rng.choice(fresh or allowed or [""])
        if role not in voices and drawn and not only_wanted:
            voices[role] = drawn
    if named(refused, _BASS):
        voices.pop("bass", None)
    if named(refused, _MELODY):
        voices.pop("lead", None)
    return voices or {"chords": "piano", "lead": "piano"}
