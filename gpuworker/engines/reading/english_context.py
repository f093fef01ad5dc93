"""English tokens that are read by what stands beside them: `St. John St.`, `5 kg`, `World War II`, `$3 billion`."""

import re
from collections.abc import Callable
from typing import Final

from gpuworker.engines.reading import english_numbers
from gpuworker.engines.reading.english_counting import cardinal, one_by_one, ordinal
from gpuworker.engines.reading.english_tables import (
    ANYWHERE,
    BEFORE_NAMES,
    BEFORE_NUMBERS,
    BEHIND_NAMES,
    MONTHS,
    UNITS,
    WITH_STOP,
)

_PLAIN_NUMBER: Final = re.compile(r"[-−+]?[\d,]*\.?\d+")
_DAY: Final = re.compile(r"[12]?\d|3[01]")
_LOCAL_NUMBER: Final = re.compile(r"\d{3}[-.]\d{4}")
_FRACTION: Final = re.compile(r"\d/\d{1,2}")
_SCALES: Final = frozenset(("hundred", "thousand", "million", "billion", "trillion"))
#: Abbreviations that are words in lower case and without a full stop.
_ALSO_WORDS: Final = frozenset(("apt", "ave", "ms", "rd"))
_ROMAN: Final = re.compile(r"(?=[XVI])(X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_DIGITS: Final = {"I": 1, "V": 5, "X": 10}
# fmt: off
_NUMBERED: Final = frozenset((
    "act", "appendix", "article", "book", "bowl", "chapter", "class", "episode", "figure", "grade", "level", "part",
    "phase", "scene", "season", "section", "stage", "table", "title", "type", "vol", "volume", "war", "wars",
))
_RULERS: Final = frozenset((
    "Alexander", "Benedict", "Catherine", "Charles", "Clement", "Edward", "Elizabeth", "Ferdinand", "Francis",
    "Frederick", "George", "Gregory", "Gustav", "Henry", "Innocent", "Ivan", "James", "John", "Leo", "Louis",
    "Napoleon", "Nicholas", "Otto", "Paul", "Peter", "Philip", "Pius", "Ptolemy", "Ramses", "Richard", "Urban",
    "Wilhelm", "William",
))
# fmt: on


def words(token: str, before: str, after: str) -> list[str] | None:
    """The words of `token` between the tokens `before` and `after`; None if these do not matter.

    A neighbour is "" where there is none, or where a comma or the like stands between.
    """
    for reader in (_unit, _number, _day, _roman, _scale, _abbreviation):
        found = reader(token, before, after)
        if found is not None:
            return found
    return None


def is_abbreviation(stem: str) -> bool:
    """Whether a word, in lower case, is an abbreviation that may end with a full stop."""
    return any(stem in table for table in (ANYWHERE, WITH_STOP, BEFORE_NAMES, BEFORE_NUMBERS))


def _unit(token: str, before: str, after: str) -> list[str] | None:
    unit = UNITS.get(token.removesuffix(".") if len(token) > 2 else token)
    if unit is None or not _PLAIN_NUMBER.fullmatch(before):
        return None
    return unit[before != "1"].split()


def _number(token: str, before: str, after: str) -> list[str] | None:
    """A part of a number, whose other part is a token of its own."""
    if _LOCAL_NUMBER.fullmatch(after) and token.isdecimal() and len(token) == 3:
        return one_by_one(token)
    if _FRACTION.fullmatch(token) and before.isdecimal():
        fraction = english_numbers.words(token)
        return ["and", *fraction] if fraction else None
    return None


def _day(token: str, before: str, after: str) -> list[str] | None:
    if not _DAY.fullmatch(token) or int(token) == 0:
        return None
    if _is_month(before):
        return ordinal(int(token))
    if _is_month(after):
        return [*([] if before.casefold() == "the" else ["the"]), *ordinal(int(token)), "of"]
    return None


def _is_number(token: str) -> bool:
    return token[:1].isdigit() or _ROMAN.fullmatch(token) is not None


def _is_month(token: str) -> bool:
    name = WITH_STOP.get(token.removesuffix(".").casefold(), token)
    return token[:1].isupper() and name in MONTHS


def _roman(token: str, before: str, after: str) -> list[str] | None:
    stem = token.removesuffix("'s")
    match = _ROMAN.fullmatch(stem)
    if match is None:
        return None
    values = [_ROMAN_DIGITS[digit] for digit in stem]
    number = sum(
        -value if value < following else value for value, following in zip(values, [*values[1:], 0], strict=True)
    )
    said: list[str] = []
    if after.casefold() in {"century", "centuries"}:
        said = ordinal(number)
    elif before in _RULERS and stem != "I":
        said = ["the", *ordinal(number)]
    elif before.casefold().removesuffix(".") in _NUMBERED and (stem != "I" or before[:1].isupper()):
        said = cardinal(number)
    if said and stem != token:
        said[-1] += "'s"
    return said or None


def _scale(token: str, before: str, after: str) -> list[str] | None:
    """Of `$3 billion`, the unit comes last."""
    if token.casefold() in _SCALES and (money := english_numbers.money(before)):
        return [token.casefold(), *money.names.split()]
    if after.casefold() in _SCALES and (money := english_numbers.money(token)):
        return money.number
    return None


def _abbreviation(token: str, before: str, after: str) -> list[str] | None:
    stem = token.casefold().removesuffix(".")
    is_marked = token.endswith(".") or token[:1].isupper()
    tables: tuple[tuple[dict[str, str], Callable[[], bool]], ...] = (
        (BEFORE_NUMBERS, lambda: _is_number(after) and (stem != "no" or is_marked)),
        (BEFORE_NAMES, lambda: token[:1].isupper() and after[:1].isupper()),
        (BEHIND_NAMES, lambda: is_marked and before != ""),
        (BEFORE_NAMES, lambda: token.endswith(".")),
        (
            WITH_STOP,
            lambda: (
                token.endswith(".") or (token[:1].isupper() and (after[:1].isdigit() or stem in {"jr", "sr", "inc"}))
            ),
        ),
        (ANYWHERE, lambda: is_marked or stem not in _ALSO_WORDS),
    )
    return next((table[stem].split() for table, holds in tables if stem in table and holds()), None)
