"""Names, texts and consents of uploaded voices. Pure."""

import re
import unicodedata
from collections.abc import Collection
from typing import Final, Literal

from bus.blobs.uploaded import folded
from bus.errors import Invalid
from bus.params import short

#: What an upload must say about the consent of the speaker.
ConsentPolicy = Literal["any", "statement"]

MAX_NAME_CHARS: Final = 64
MAX_TEXT_CHARS: Final = 4_000
_MIN_STATEMENT_CHARS: Final = 16
#: Names must not look like ids, nor like paths.
_RESERVED: Final = re.compile(r"(?i)voice_[0-9a-f]{22}|cons_.*|\..*|.*[/\\:+].*", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_name(name: str, built_in: Collection[str]) -> str:
    """The name without white space around it. `built_in`: names of other voices. Raises Invalid."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise Invalid(f"name: must have 1 to {MAX_NAME_CHARS} characters, not {len(name)}", "name")
    if not name.isprintable():
        raise Invalid(f"name: {short(ascii(name))} has a character that cannot be printed", "name")
    if _RESERVED.fullmatch(name):
        raise Invalid(
            f"name: {short(repr(name))} must not begin with a dot, have the form of an id, or have one of / \\ : +",
            "name",
        )
    if folded(name) in {folded(each) for each in built_in}:
        raise Invalid(f"name: {name!r} is the name of a built-in voice", "name")
    return name


def check_text(text: str, field: str) -> str:
    """`text` without white space around it. Raises Invalid."""
    text = text.strip()
    if len(text) > MAX_TEXT_CHARS:
        raise Invalid(f"{field}: has {len(text)} characters, the limit is {MAX_TEXT_CHARS}", field)
    if found := _CONTROL.search(text):
        raise Invalid(f"{field}: has the control character U+{ord(found[0]):04X} at position {found.start()}", field)
    return text


def check_consent(consent: str, policy: ConsentPolicy) -> str:
    """The words with which the uploader states the consent of the speaker. Raises Invalid by the policy."""
    consent = check_text(consent, "consent")
    if policy == "statement" and len(consent) < _MIN_STATEMENT_CHARS:
        raise Invalid(
            f"consent: must state in words, at least {_MIN_STATEMENT_CHARS} characters, that the speaker agrees to "
            f"this use of the voice; it is {short(repr(consent))}",
            "consent",
        )
    return consent
