"""Which model and voice answer a request for a model that stands for a family: ADR 17. Pure.

A model such as `speech` stands for every model whose card names it as its `family`. The choice is made once, at
validation, and written into the job.
"""

import unicodedata
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


def resolve(job: wire.Job, named: ModelCard, members: Sequence[ModelCard]) -> tuple[ModelCard, str]:
    """The card that answers `job`, and the id of its voice; `named` and the voice as sent if no member is chosen.

    `named`: the card of the model that the job names or, if no worker ever offered that, of a member. `members`: of the
    family, best first.
    """
    has_own = not named.family
    if job.version or any(ssml.is_document(text) for text in [job.input, *(turn.text for turn in job.script)]):
        return named, job.voice
    if has_own and not _names(job).isdisjoint(voice.id for voice in named.voices):
        return named, job.voice
    for card in members:
        voice = _voice(job, named if has_own else card, card) if _takes(card, job) else None
        if voice is not None:
            return card, voice
    return named, job.voice


def _takes(card: ModelCard, job: wire.Job) -> bool:
    """Whether length and params of `job` are within the limits of the card."""
    if len(wire.text_of(job)) > card.max_input_chars or (job.script and not card.scripts):
        return False
    try:
        params.check(card.param_schema, job.params)
    except Invalid:
        return False
    return True


def _voice(job: wire.Job, named: ModelCard, member: ModelCard) -> str | None:
    """The voice of `member` that the job names or, if it names none, one for the language that `named` speaks.

    None if there is none, or `member` lacks a voice that a turn of the script names.
    """
    ids = [voice.id for voice in member.voices]
    if any(voices.listed(name, ids) is None for name in _names(job)):
        return None
    if job.voice:
        return voices.listed(job.voice, ids)
    spoken = named.language_of(named.default_voice)
    if not is_written_in(wire.text_of(job), spoken):
        return None
    own_first = sorted(member.voices, key=lambda voice: voice.id != member.default_voice)
    found = _of_language(own_first, spoken) or _of_language(own_first, _primary(spoken))
    return found.id if found is not None else None


def _names(job: wire.Job) -> set[str]:
    """The voices that the job names, in its turns too."""
    return {job.voice, *(turn.voice for turn in job.script)} - {""}


def _of_language(among: Sequence[Voice], language: str) -> Voice | None:
    tags = ((voice, voice.language.casefold()) for voice in among)
    return next((voice for voice, tag in tags if language in {tag, _primary(tag)}), None)


def _primary(tag: str) -> str:
    return tag.partition("-")[0]


def is_written_in(text: str, language: str) -> bool:
    """Whether every letter of `text` belongs to the script of `language`, a tag of BCP 47 in lower case."""
    scripts = _SCRIPTS.get(_primary(language), _LATIN)
    if text.isascii() and scripts is _LATIN:
        return True
    letters = (char for char in set(text) if char.isalpha())
    names = (unicodedata.name(unicodedata.normalize("NFKD", char)[0], "").split(" ") for char in letters)
    return all(name[0] in scripts for name in names)
