"""Whole numbers as English words: cardinals, ordinals, years, digits one by one."""

from typing import Final

_ONES: Final = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "  # noqa: SIM905
    "seventeen eighteen nineteen".split()
)
_TENS: Final = tuple("zero ten twenty thirty forty fifty sixty seventy eighty ninety".split())  # noqa: SIM905
_GROUPS: Final = ("", "thousand", "million", "billion", "trillion")
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
#: Numbers of four digits that are read as years.
YEARS: Final = range(1100, 2100)


def ordinal(number: int) -> list[str]:
    """The first, second, …."""
    *before, last = cardinal(number)
    return [*before, _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last.rstrip('t')}th")]


def one_by_one(digits: str) -> list[str]:
    """Each digit."""
    return [_ONES[int(digit)] for digit in digits]


def cardinal(number: int) -> list[str]:
    """A whole number from 0 to less than a quadrillion."""
    if number == 0:
        return ["zero"]
    said: list[str] = []
    for index in reversed(range(len(_GROUPS))):
        group = number // 1000**index % 1000
        if group:
            said += [*_below_thousand(group), *([_GROUPS[index]] if index else [])]
    return said


def _below_thousand(number: int) -> list[str]:
    hundreds, rest = divmod(number, 100)
    said = [_ONES[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        return [*said, _TENS[rest // 10], *([_ONES[rest % 10]] if rest % 10 else [])]
    return [*said, *([_ONES[rest]] if rest else [])]


def year(number: int) -> list[str]:
    """A year from 1100 to 2099, as it is said."""
    century, rest = divmod(number, 100)
    if number % 1000 < 10:
        return cardinal(number)
    if rest == 0:
        return [*cardinal(century), "hundred"]
    return [*cardinal(century), *(["oh"] if rest < 10 else []), *cardinal(rest)]
