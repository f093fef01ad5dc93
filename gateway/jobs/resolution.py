"""Which model and voice answer a request for a model that stands for a family: ADR 17. Pure.

A model such as `speech` stands for every model whose card names it as its `family`. The choice is made once, at
validation, and written into the job.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from bus import params, ssml, voices, wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard, Voice

#: Scripts by language, as Unicode's names of letters begin; any other language is written in Latin letters.
_SCRIPTS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("be", "bg", "kk", "ky", "mk", "mn", "ru", "sr", "tg", "uk"), frozenset({"CYRILLIC"})),
    **dict.fromkeys(("ar", "fa", "ps", "ur"), frozenset({"ARABIC"})),
    **dict.fromkeys(("hi", "mr", "ne"), frozenset({"DEVANAGARI"})),
    **dict.fromkeys(("cmn", "yue", "zh"), frozenset({"CJK"})),
    "bn": frozenset({"BENGALI"}),
    "el": frozenset({"GREEK"}),
    "he": frozenset({"HEBREW"}),
    "hy": frozenset({"ARMENIAN"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    "ka": frozenset({"GEORGIAN"}),
    "ko": frozenset({"HANGUL", "CJK"}),
    "ml": frozenset({"MALAYALAM"}),
    "ta": frozenset({"TAMIL"}),
    "te": frozenset({"TELUGU"}),
    "th": frozenset({"THAI"}),
}
_LATIN: Final = frozenset({"LATIN"})
_MAX_COUNTED_CHARS: Final = 10_000


def resolve(job: wire.Job, named: ModelCard, members: Sequence[ModelCard], language: str = "") -> tuple[ModelCard, str]:
    """The card that answers `job`, and the id of its voice; `named` and the voice as sent if no member is chosen.

    `named`: the card of the model that the job names or, if no worker ever offered that, of a member. `members`: of the
    family, best first. `language`: for a job without a voice, if its caller named one.

    Raises Invalid for a voice that a member alone has and that cannot speak the job, with the reason.
    """
    has_own = not named.family
    if _is_pinned(job) or _is_ssml(job):
        _check_own(job, named, members)
        return named, job.voice
    if has_own and not _names(job).isdisjoint(voice.id for voice in named.voices):
        return named, job.voice
    for card in members:
        default = named if has_own else card
        spoken = language or default.language_of(default.default_voice)
        voice = _voice(job, spoken, card) if _takes(card, job) else None
        if voice is not None:
            return card, voice
    _check_own(job, named, members)
    return named, job.voice


def _is_pinned(job: wire.Job) -> bool:
    """Whether the request names a version; or a route does, and the request no voice that a member may have."""
    is_routed = job.requested is not None and not job.requested.version
    return bool(job.version) and not (is_routed and _names(job))


def _is_ssml(job: wire.Job) -> bool:
    return any(ssml.is_document(text) for text in [job.input, *(turn.text for turn in job.script)])


def _check_own(job: wire.Job, named: ModelCard, members: Sequence[ModelCard]) -> None:
    """Raise Invalid if the job names a voice that `named` lacks and a member has, which cannot speak the job.

    Otherwise it would be refused as unknown, and clients find it among the voices.
    """
    if not job.voice or named.family or voices.nearest(job.voice, [voice.id for voice in named.voices]) is not None:
        return
    for card in members:
        voice = voices.listed(job.voice, [voice.id for voice in card.voices])
        if voice is None:
            continue
        if _is_ssml(job):
            raise Invalid(f"input: is SSML, which {voice!r} of {card.name} does not read", "input")
        params.check(card.param_schema, job.params)


def _takes(card: ModelCard, job: wire.Job) -> bool:
    """Whether length, inputs and params of `job` are within the limits of the card."""
    if len(wire.text_of(job)) > card.max_input_chars or (job.script and not card.scripts):
        return False
    if not job.inputs.keys() <= {*card.inputs}:
        return False
    try:
        params.check(card.param_schema, job.params)
    except Invalid:
        return False
    return True


def voice_of_language(card: ModelCard, language: str) -> str:
    """The voice of a job without one whose caller named a language; "" for the model's default, as without a better."""
    found = _of_language(_own_first(card), language)
    return "" if found is None or found.id == card.default_voice else found.id


def _voice(job: wire.Job, spoken: str, member: ModelCard) -> str | None:
    """The voice of `member` that the job names or, if it names none, one that speaks the language `spoken`.

    None if there is none, or `member` lacks a voice that a turn of the script names, or voices for all its speakers.
    """
    ids = [voice.id for voice in member.voices]
    if any(voices.listed(name, ids) is None for name in _names(job)):
        return None
    if job.voice:
        return voices.listed(job.voice, ids)
    if not is_written_in(wire.text_of(job), spoken):
        return None
    best = _own_first(member)
    found = _of_language(best, spoken) or _of_language(best, _primary(spoken))
    if found is None or _num_unvoiced(job) > sum(_speaks(voice, _primary(spoken)) for voice in best):
        return None
    return found.id


def _num_unvoiced(job: wire.Job) -> int:
    """Speakers of the script that it gives no voice to."""
    return len({turn.speaker for turn in job.script} - {turn.speaker for turn in job.script if turn.voice} - {""})


def _own_first(card: ModelCard) -> list[Voice]:
    return sorted(card.voices, key=lambda voice: voice.id != card.default_voice)


def _names(job: wire.Job) -> set[str]:
    """The voices that the job names, in its turns too."""
    return {job.voice, *(turn.voice for turn in job.script)} - {""}


def _of_language(among: Sequence[Voice], language: str) -> Voice | None:
    return next((voice for voice in among if _speaks(voice, language)), None)


def _speaks(voice: Voice, language: str) -> bool:
    """Whether a voice speaks `language`, or a variant of it."""
    return f"{voice.language.casefold()}-".startswith(f"{language}-")


def _primary(tag: str) -> str:
    return tag.partition("-")[0]


def is_written_in(text: str, language: str) -> bool:
    """Whether most letters of `text` belong to the script of `language`, a tag of BCP 47 in lower case.

    A voice names the few of another script as espeak-ng does; of a long text the beginning decides.
    """
    scripts = _SCRIPTS.get(_primary(language), _LATIN)
    if text.isascii() and scripts is _LATIN:
        return True
    letters = {char: count for char, count in Counter(text[:_MAX_COUNTED_CHARS]).items() if char.isalpha()}
    own = sum(count for char, count in letters.items() if _script(char) in scripts)
    return 2 * own >= sum(letters.values())


def _script(letter: str) -> str:
    return unicodedata.name(unicodedata.normalize("NFKD", letter)[0], "").partition(" ")[0]
