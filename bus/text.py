"""Functions on text that all packages share, engines included. Imports the standard library only."""

import difflib
import re
from collections.abc import Callable, Collection
from typing import Final

#: difflib compares in quadratic time, and a name may be as long as a request.
_MAX_COMPARED_CHARS: Final = 80
_MAX_LISTED: Final = 20
#: Names of so few characters resemble many others: they need more than difflib's 0.6. `bob` and `jbo` have 0.67.
_SHORT_CHARS: Final = 3
_NEAR_IF_SHORT: Final = 0.7
#: Han, kana and Hangul: a character says as much as two and a half letters of a script that spells.
_DENSE: Final = re.compile("[\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]")
_LETTERS_OF_DENSE: Final = 2.5


def did_you_mean(name: str, known: Collection[str], spell: Callable[[str], str] = str, *, limit: int = 1) -> str:
    """Return `; did you mean X?` where `name` resembles one of `known`, otherwise an empty string.

    Names at most `limit` candidates, each as `spell` writes it, the nearest first; swapped letters count as nearest.
    """
    name = name[:_MAX_COMPARED_CHARS]
    close = [
        other
        for other in difflib.get_close_matches(name, sorted(known), n=3)
        if len(name) > _SHORT_CHARS
        or sorted(other) == sorted(name)
        or difflib.SequenceMatcher(None, other, name).ratio() >= _NEAR_IF_SHORT
    ]
    close.sort(key=lambda other: sorted(other) != sorted(name))
    return f"; did you mean {' or '.join(map(spell, close[:limit]))}?" if close else ""


def suggestion(name: str, known: Collection[str], spell: Callable[[str], str] = repr, *, limit: int = 1) -> str:
    """Return `did_you_mean`, or a list of the first known names (`; known are X, Y and 3 more`) if none resembles."""
    if near := did_you_mean(name, known, spell, limit=limit):
        return near
    listed = ", ".join([spell(each) for each in list(known)[:_MAX_LISTED]]) or "none"
    more = f" and {len(known) - _MAX_LISTED} more" if len(known) > _MAX_LISTED else ""
    return f"; known are {listed}{more}"


def num_letters(text: str) -> float:
    """The letters and digits of a text; one of Han, kana or Hangul counts for two and a half."""
    letters = "".join(filter(str.isalnum, text))
    return len(letters) + (_LETTERS_OF_DENSE - 1) * len(_DENSE.findall(letters))
