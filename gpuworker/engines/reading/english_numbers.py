"""Numbers as English words: cardinals, ordinals, years, decimals, money, times."""

import re
from typing import Final

_ONES: Final = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "  # noqa: SIM905
    "seventeen eighteen nineteen".split()
)
_TENS: Final = tuple("zero ten twenty thirty forty fifty sixty seventy eighty ninety".split())  # noqa: SIM905
_MONTHS: Final = tuple(
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
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
_MONEY: Final = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", ""),
}
_PLURALS: Final = {"yen": "yen", "penny": "pence"}
_SCALES: Final = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
#: More digits than these are read one by one.
_MAX_DIGITS: Final = 15
_YEARS: Final = range(1100, 2100)

_NUMBER = r"(?P<whole>\d[\d,]*)?(?:\.(?P<part>\d+))?"
_PATTERNS: Final = (
    ("date", re.compile(r"(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])")),
    ("money", re.compile(rf"(?P<sign>[$€£¥]){_NUMBER}(?P<scale>k|m|bn|b|tn)?", re.IGNORECASE)),
    (
        "time",
        re.compile(
            r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?P<half>[ap]\.?m\.?)?",
            re.IGNORECASE,
        ),
    ),
    ("ordinal", re.compile(r"(?P<whole>\d[\d,]*)(?:st|nd|rd|th)", re.IGNORECASE)),
    ("decade", re.compile(r"(?P<whole>\d{3}0|\d0)'?s")),
    ("percent", re.compile(rf"{_NUMBER}(?P<sign>%|‰)")),
    ("degrees", re.compile(rf"{_NUMBER}°(?P<scale>[CF])?")),
    ("number", re.compile(_NUMBER)),
)


def words(token: str) -> list[str] | None:
    """The words of a token that is a number, a price, a time or a share; None if it is something else."""
    if not any(map(str.isdigit, token)) or (not token.isascii() and not set(token) & set("€£¥°‰")):
        return None
    for name, pattern in _PATTERNS:
        match = pattern.fullmatch(token)
        if match:
            return _READERS[name](match)
    return None


def _money(match: re.Match[str]) -> list[str]:
    name, small = _MONEY[match["sign"]]
    scale = _SCALES.get((match["scale"] or "").lower(), "")
    part = match["part"] or ""
    if scale or not small or len(part) != 2:
        number = _number(match)
        return [*number, *([scale] if scale else []), _plural(name, number == ["one"] and not scale)]
    whole, cents = _digits(match), int(part)
    said = [*cardinal(whole), _plural(name, whole == 1)] if whole or not cents else []
    if cents:
        said += [*(["and"] if said else []), *cardinal(cents), _plural(small, cents == 1)]
    return said


def _time(match: re.Match[str]) -> list[str]:
    minute = int(match["minute"])
    said = cardinal(int(match["hour"]))
    if minute:
        said += [*(["oh"] if minute < 10 else []), *cardinal(minute)]
    elif not match["half"]:
        said += ["o'clock"] if int(match["hour"]) <= 12 else ["hundred"]
    if match["second"]:
        said += ["and", *cardinal(int(match["second"])), "seconds"]
    return said + (list((match["half"] or "").replace(".", "").upper()))


def _date(match: re.Match[str]) -> list[str]:
    number = int(match["year"])
    said = year(number) if number in _YEARS else cardinal(number)
    return [_MONTHS[int(match["month"]) - 1], *_ordinal_of(int(match["day"])), *said]


def _ordinal(match: re.Match[str]) -> list[str]:
    return _ordinal_of(_digits(match))


def _ordinal_of(number: int) -> list[str]:
    *before, last = cardinal(number)
    return [*before, _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last.rstrip('t')}th")]


def _decade(match: re.Match[str]) -> list[str]:
    *before, last = year(int(match["whole"])) if len(match["whole"]) == 4 else cardinal(int(match["whole"]))
    return [*before, f"{last[:-1]}ies" if last.endswith("y") else f"{last}s"]


def _percent(match: re.Match[str]) -> list[str]:
    return [*_number(match), *(["percent"] if match["sign"] == "%" else ["per", "mille"])]


def _degrees(match: re.Match[str]) -> list[str]:
    scale = {"C": ["Celsius"], "F": ["Fahrenheit"]}.get(match["scale"] or "", [])
    return [*_number(match), "degrees", *scale]


def _plain(match: re.Match[str]) -> list[str]:
    whole = match["whole"] or ""
    if not match["part"] and len(whole) == 4 and whole.isdigit() and int(whole) in _YEARS:
        return year(int(whole))
    return _number(match)


_READERS: Final = {
    "date": _date,
    "money": _money,
    "time": _time,
    "ordinal": _ordinal,
    "decade": _decade,
    "percent": _percent,
    "degrees": _degrees,
    "number": _plain,
}


def _digits(match: re.Match[str]) -> int:
    return int((match["whole"] or "0").replace(",", ""))


def _number(match: re.Match[str]) -> list[str]:
    """A whole or decimal number; one with a leading zero, or very long, is read digit by digit."""
    digits = (match["whole"] or "").replace(",", "")
    is_code = len(digits) > _MAX_DIGITS or (len(digits) > 1 and digits[0] == "0")
    said = one_by_one(digits) if is_code else cardinal(int(digits)) if digits else []
    return said + (["point", *one_by_one(match["part"])] if match["part"] else [])


def _plural(name: str, is_one: bool) -> str:
    return name if is_one else _PLURALS.get(name, f"{name}s")


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
