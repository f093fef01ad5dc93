"""Tokens with digits as English words: numbers, prices, dates, times, shares, codes."""

import re
from typing import Final, NamedTuple

from gpuworker.engines.reading.english_counting import YEARS, cardinal, one_by_one, ordinal, year
from gpuworker.engines.reading.english_tables import MONEY, MONTHS, UNITS

_PLURALS: Final = {"penny": "pence"}
_PARTS: Final = {2: "half", 4: "quarter"}
_SCALES: Final = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
#: More digits than these are read one by one.
_MAX_DIGITS: Final = 15

_NUMBER = r"(?P<whole>\d{1,3}(?:,\d{3})+|\d+)?(?:\.(?P<part>\d+))?"
_CURRENCY = "|".join(re.escape(sign) for sign in sorted(MONEY, key=len, reverse=True))
_TIME = r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:[.,](?P<part>\d{1,9}))?)?"
_PATTERNS: Final = (
    (
        "date",
        re.compile(
            rf"(?P<year>\d{{4}})(?P<sign>[-/])(?P<month>0?[1-9]|1[0-2])(?P=sign)(?P<day>0?[1-9]|[12]\d|3[01])"
            rf"(?:T{_TIME}(?P<half>)(?P<zone>Z|[+-]\d\d:?\d\d)?)?"
        ),
    ),
    ("slashed", re.compile(r"(?P<first>\d{1,2})/(?P<second>\d{1,2})/(?P<year>\d{4}|\d{2})")),
    ("dotted", re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}")),
    ("years", re.compile(r"(?P<first>1[1-9]\d\d|20\d\d)[-–](?P<last>1[1-9]\d\d|20\d\d)")),
    ("code", re.compile(r"(?:\+?\d{1,3}[-.])?(?:\(\d{3}\)|\d{3})[-.]?\d{3}[-.]\d{4}")),
    ("steps", re.compile(r"\d+(?:\.\d+){2,}(?:/\d+)?")),
    ("mixed", re.compile(r"(?P<whole>\d+) (?P<top>\d)/(?P<bottom>\d{1,2})")),
    ("fraction", re.compile(r"(?P<top>\d{1,2})/(?P<bottom>[2-9]|10|16|32|64|100)")),
    ("power", re.compile(rf"{_NUMBER}[eE](?P<sign>[-−+]?)(?P<power>\d{{1,3}})")),
    ("height", re.compile(r"(?P<feet>\d)'(?P<inches>\d{1,2})")),
    ("money", re.compile(rf"(?P<sign>{_CURRENCY}){_NUMBER}(?P<scale>k|m|bn|b|tn)?", re.IGNORECASE)),
    ("time", re.compile(rf"{_TIME}(?P<half>[ap]\.?m\.?)?", re.IGNORECASE)),
    ("ordinal", re.compile(r"(?P<whole>\d[\d,]*)(?:st|nd|rd|th)", re.IGNORECASE)),
    ("decade", re.compile(r"(?P<whole>\d{3}0|\d0)'?s")),
    ("percent", re.compile(rf"{_NUMBER}(?P<sign>%|‰)")),
    ("degrees", re.compile(rf"{_NUMBER}°(?P<scale>[CFNSEW])?")),
    ("unit", re.compile(rf"{_NUMBER}(?P<unit>[^\d\s.,][^\d\s,]*)")),
    ("numbered", re.compile(r"No\.?(?P<whole>\d+)(?P<part>)")),
    ("number", re.compile(_NUMBER)),
)


class Money(NamedTuple):
    """An amount before a scale: `$3` of `$3 billion`."""

    number: list[str]
    #: The unit, for several.
    names: str


def words(token: str) -> list[str] | None:
    """The words of a token that is a number, a price, a date, a time or the like; None if it is something else."""
    if not any("0" <= char <= "9" for char in token):
        return None
    for name, pattern in _PATTERNS:
        match = pattern.fullmatch(token)
        if match and (found := _READERS[name](match)):
            return found
    return None


def money(token: str) -> Money | None:
    """A token that is an amount of money without cents."""
    match = dict(_PATTERNS)["money"].fullmatch(token)
    if match is None or match["scale"] or not (match["whole"] or match["part"]):
        return None
    return Money(_number(match), MONEY[match["sign"].upper()][1])


def _money(match: re.Match[str]) -> list[str]:
    if not (match["whole"] or match["part"]):
        return []
    one, several, small = MONEY[match["sign"].upper()]
    scale = _SCALES.get((match["scale"] or "").lower(), "")
    part = match["part"] or ""
    if scale or not small or len(part) != 2:
        number = _number(match)
        return [*number, *([scale] if scale else []), *(one if number == ["one"] and not scale else several).split()]
    whole, cents = _digits(match), int(part)
    said = [*cardinal(whole), *(one if whole == 1 else several).split()] if whole or not cents else []
    if cents:
        said += [
            *(["and"] if said else []),
            *cardinal(cents),
            small if cents == 1 else _PLURALS.get(small, f"{small}s"),
        ]
    return said


def _time(match: re.Match[str]) -> list[str]:
    minute = int(match["minute"])
    said = cardinal(int(match["hour"]))
    if minute:
        said += [*(["oh"] if minute < 10 else []), *cardinal(minute)]
    elif not match["half"]:
        said += ["o'clock"] if int(match["hour"]) <= 12 else ["hundred"]
    if match["second"]:
        part = ["point", *one_by_one(match["part"])] if match["part"] else []
        said += ["and", *cardinal(int(match["second"])), *part, "seconds"]
    return said + (list((match["half"] or "").replace(".", "").upper()))


def _date(match: re.Match[str]) -> list[str]:
    said = _day_of(int(match["month"]), int(match["day"]), match["year"])
    if match["hour"]:
        said += ["at", *_time(match)]
        zone = match["zone"] or ""
        said += ["Z"] if zone == "Z" else ["plus" if zone[0] == "+" else "minus", *one_by_one(zone[1:])] if zone else []
    return said


def _day_of(month: int, day: int, of_year: str) -> list[str]:
    number = int(of_year)
    said = year(number) if number in YEARS else ["oh", *cardinal(number)] if number < 10 else cardinal(number)
    return [MONTHS[month - 1], *ordinal(day), *said]


def _slashed(match: re.Match[str]) -> list[str]:
    """Month and day, as in the United States; a first number that is no month is the day."""
    first, second = int(match["first"]), int(match["second"])
    month, day = (second, first) if first > 12 else (first, second)
    return _day_of(month, day, match["year"]) if 1 <= month <= 12 and 1 <= day <= 31 else []


def _dotted(match: re.Match[str]) -> list[str]:
    day, month, of_year = match.group().split(".")
    return [*cardinal(int(day)), *cardinal(int(month)), *year(int(of_year))]


def _years(match: re.Match[str]) -> list[str]:
    return [*year(int(match["first"])), "to", *year(int(match["last"]))]


def _code(match: re.Match[str]) -> list[str]:
    plus = ["plus"] if match.group()[0] == "+" else []
    return plus + one_by_one("".join(filter(str.isdecimal, match.group())))


def _steps(match: re.Match[str]) -> list[str]:
    """A version or an address: `1.2.3`, `10.0.0.0/8`."""
    number, slash, bits = match.group().partition("/")
    said: list[str] = []
    for step in number.split("."):
        said += [
            *(["dot"] if said else []),
            *(cardinal(int(step)) if step == str(int(step)) and len(step) < 4 else one_by_one(step)),
        ]
    return said + (["slash", *cardinal(int(bits))] if slash else [])


def _mixed(match: re.Match[str]) -> list[str]:
    return [*cardinal(int(match["whole"])), "and", *_fraction(match)]


def _fraction(match: re.Match[str]) -> list[str]:
    top, bottom = int(match["top"]), int(match["bottom"])
    if not 0 < top < bottom:
        return []
    *before, last = [_PARTS[bottom]] if bottom in _PARTS else ordinal(bottom)
    return [*cardinal(top), *before, last if top == 1 else f"{last}s"]


def _power(match: re.Match[str]) -> list[str]:
    if not (match["whole"] or match["part"]):
        return []
    minus = ["minus"] if match["sign"] in {"-", "−"} else []
    return [*_number(match), "times", "ten", "to", "the", *minus, *cardinal(int(match["power"]))]


def _height(match: re.Match[str]) -> list[str]:
    feet = ["foot" if match["feet"] == "1" else "feet"]
    return [*cardinal(int(match["feet"])), *feet, *cardinal(int(match["inches"]))]


def _unit(match: re.Match[str]) -> list[str]:
    names = UNITS.get(match["unit"])
    if names is None or not (match["whole"] or match["part"]):
        return []
    return [*_number(match), *names[match.group() != f"1{match['unit']}"].split()]


def _ordinal(match: re.Match[str]) -> list[str]:
    return ordinal(_digits(match))


def _decade(match: re.Match[str]) -> list[str]:
    *before, last = year(int(match["whole"])) if len(match["whole"]) == 4 else cardinal(int(match["whole"]))
    return [*before, f"{last[:-1]}ies" if last.endswith("y") else f"{last}s"]


def _percent(match: re.Match[str]) -> list[str]:
    if not (match["whole"] or match["part"]):
        return []
    return [*_number(match), *(["percent"] if match["sign"] == "%" else ["per", "mille"])]


_OF_DEGREES: Final = {
    "C": ["Celsius"], "F": ["Fahrenheit"], "N": ["north"], "S": ["south"], "E": ["east"], "W": ["west"],
}  # fmt: skip


def _degrees(match: re.Match[str]) -> list[str]:
    if not (match["whole"] or match["part"]):
        return []
    scale = _OF_DEGREES.get(match["scale"] or "", [])
    return [*_number(match), "degrees", *scale]


def _plain(match: re.Match[str]) -> list[str]:
    whole = match["whole"] or ""
    if not match["part"] and len(whole) == 4 and whole.isdigit() and int(whole) in YEARS:
        return year(int(whole))
    return _number(match)


def _numbered(match: re.Match[str]) -> list[str]:
    return ["number", *_plain(match)]


_READERS: Final = {
    "date": _date,
    "slashed": _slashed,
    "dotted": _dotted,
    "years": _years,
    "code": _code,
    "steps": _steps,
    "mixed": _mixed,
    "fraction": _fraction,
    "power": _power,
    "height": _height,
    "money": _money,
    "time": _time,
    "ordinal": _ordinal,
    "decade": _decade,
    "percent": _percent,
    "degrees": _degrees,
    "unit": _unit,
    "numbered": _numbered,
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
