"""Names of voices as clients write them: any case, `_` for `-`, and language tags more precise than a model has.

And the digest that says which files a voice has.

Imports the standard library only: engines import this module.
"""

import difflib
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from bus.text import did_you_mean

#: A job's input that is a clip of the voice to speak with: WAV, mono, s16le. A model whose card takes it clones.
REFERENCE: Final = "reference"
#: The words of that clip, UTF-8.
REFERENCE_TEXT: Final = "reference_text"
CLIP_INPUTS: Final = frozenset({REFERENCE, REFERENCE_TEXT})
_UPLOADED: Final = re.compile(r"voice_[0-9a-f]{22}")
#: Tags of BCP 47 that usual voices have under another name.
_OTHER_NAMES: Final = {
    "fil": "tl",
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "nn": "nb",
    "no": "nb",
    "zh": "cmn",
    "zh-hk": "yue",
    "zh-mo": "yue",
    "zh-yue": "yue",
}
#: A language, and what may stand behind it: script, region. Other words of a name may look like parts of a tag.
_SCRIPTS: Final = (
    "arab|armn|beng|cyrl|deva|geor|grek|gujr|guru|hang|hans|hant|hebr|jpan|knda|kore|latn|mlym|taml|telu|thai"
)
_TAG: Final = re.compile(rf"[a-z]{{2,3}}(?:-(?:{_SCRIPTS}|[a-z]{{2}}|\d{{3}}))*")
_MAX_COMPARED_CHARS: Final = 80


def spellings(voice: str) -> Iterator[str]:
    """The names to look for, best first: `pt_BR` is `pt-br`, then `pt`. What is behind a `+`, the variant, stays."""
    base, plus, variant = voice.partition("+")
    tag = base.casefold().replace("_", "-")
    yield tag + plus + variant
    while tag:
        if tag in _OTHER_NAMES:
            yield _OTHER_NAMES[tag] + plus + variant
        if not _TAG.fullmatch(tag):
            return
        tag = tag.rpartition("-")[0]
        if tag:
            yield tag + plus + variant


def nearest(voice: str, ids: Collection[str]) -> str | None:
    """The name by which a model with the voices `ids` knows `voice`; None if it has none like it.

    A card does not list every name that its engine knows: `en` for its `en-…`, `de+f3` for a variant. These are
    returned as they are, and the engine decides.
    """
    if voice in ids:
        return voice
    by_case = {each.casefold(): each for each in ids}
    for name in spellings(voice):
        base, plus, variant = name.partition("+")
        if base in by_case:
            return by_case[base] + plus + variant
        if any(each.startswith(f"{base}-") for each in by_case):
            return name
    return None


def listed(voice: str, ids: Collection[str]) -> str | None:
    """The one of `ids` that `voice` names, in any case and with `_` for `-`; None if none is.

    A beginning that ends before a hyphen names the first such id, a language tag one of its language. What is behind a
    `+` stays behind the id of a whole name.
    """
    by_name = {_folded(each): each for each in reversed([*ids])}
    if _folded(voice) in by_name:
        return by_name[_folded(voice)]
    base, plus, variant = voice.partition("+")
    if plus:
        return by_name[_folded(base)] + plus + variant if _folded(base) in by_name else None
    for name in spellings(voice):
        found = next((each for each in ids if _folded(each).startswith(f"{name}-") and "+" not in each), None)
        if found is not None:
            return found
    return None


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-")


def hint(voice: str, ids: Collection[str], model: str) -> str:
    """The end of an error about an unknown voice: three that are near, and where all are listed."""
    near = did_you_mean(voice.casefold(), ids, repr, limit=3)
    if not near:
        found = difflib.get_close_matches(voice.casefold()[:_MAX_COMPARED_CHARS], sorted(ids), n=3, cutoff=0.0)
        near = f"; near ones are {', '.join(map(repr, found))}"
    return f"{near}; `GET /v1/voices?model={model}` lists all"


def is_uploaded_id(voice: str) -> bool:
    """Whether `voice` has the form of the ids of uploaded voices."""
    return _UPLOADED.fullmatch(voice) is not None


def files_digest(files: Mapping[str, str]) -> str:
    """The SHA-256 of a voice, hexadecimal, of the SHA-256 of each of its files by name.

    It is that of the lines `<sha256>  <name>`, by name: `sha256sum FILE… | sha256sum` prints it too.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
