"""English text as the words that are said: numbers, signs, abbreviations, capitals and addresses written out."""

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from gpuworker.engines.reading import english_numbers

#: Abbreviations, with their full stop.
_ABBREVIATIONS: Final = {
    "approx.": "approximately",
    "apr.": "April",
    "aug.": "August",
    "ave.": "avenue",
    "blvd.": "boulevard",
    "capt.": "captain",
    "co.": "company",
    "col.": "colonel",
    "corp.": "corporation",
    "dec.": "December",
    "dept.": "department",
    "dr.": "doctor",
    "e.g.": "for example",
    "etc.": "et cetera",
    "feb.": "February",
    "fig.": "figure",
    "gen.": "general",
    "gov.": "governor",
    "i.e.": "that is",
    "inc.": "incorporated",
    "jan.": "January",
    "jr.": "junior",
    "lt.": "lieutenant",
    "ltd.": "limited",
    "mr.": "mister",
    "mrs.": "missus",
    "ms.": "miz",
    "mt.": "mount",
    "nov.": "November",
    "oct.": "October",
    "p.s.": "P S",
    "prof.": "professor",
    "rev.": "reverend",
    "sen.": "senator",
    "sept.": "September",
    "sgt.": "sergeant",
    "sr.": "senior",
    "st.": "saint",
    "vs.": "versus",
    "vol.": "volume",
}
_UNITS: Final = {
    "km": "kilometers",
    "m": "meters",
    "cm": "centimeters",
    "mm": "millimeters",
    "kg": "kilograms",
    "g": "grams",
    "mg": "milligrams",
    "lb": "pounds",
    "lbs": "pounds",
    "oz": "ounces",
    "ft": "feet",
    "mi": "miles",
    "h": "hours",
    "hr": "hours",
    "hrs": "hours",
    "min": "minutes",
    "s": "seconds",
    "sec": "seconds",
    "ms": "milliseconds",
    "kb": "kilobytes",
    "mb": "megabytes",
    "gb": "gigabytes",
    "tb": "terabytes",
    "hz": "hertz",
    "khz": "kilohertz",
    "mhz": "megahertz",
    "ghz": "gigahertz",
    "kw": "kilowatts",
    "am": "A M",
    "pm": "P M",
    "mph": "miles per hour",
    "x": "times",
}
_SIGNS: Final = {
    "&": "and",
    "%": "percent",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "#": "number",
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "°": "degrees",
    "×": "times",
    "÷": "divided by",
    "<": "less than",
    ">": "greater than",
    "≤": "less or equal",
    "≥": "greater or equal",
    "≈": "about",
    "±": "plus or minus",
    "©": "copyright",
    "®": "registered",
    "™": "trademark",
    "§": "section",
    "√": "square root",
    "∞": "infinity",
    "→": "arrow",
}
#: Those that are read out within an address.
_IN_ADDRESSES: Final = {
    **_SIGNS,
    ".": "dot",
    "/": "slash",
    ":": "colon",
    "-": "dash",
    "_": "underscore",
    "?": "question mark",
    "#": "hash",
    "~": "tilde",
}
_FRACTIONS: Final = {
    "1/2": "one half",
    "1/3": "one third",
    "2/3": "two thirds",
    "1/4": "one quarter",
    "3/4": "three quarters",
}
#: Letters that have no accent to be taken off.
_LETTERS: Final = str.maketrans(
    {
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "ð": "th",
        "þ": "th",
        "’": "'",
        "‘": "'",
        "ʼ": "'",
    }
)
_ADDRESS: Final = re.compile(
    r"(?:[a-z]+://\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:[\w-]+\.)+(?:com|org|net|io|dev|edu|gov|co|uk|de|ai|app|info)(?:/\S*)?)",
    re.IGNORECASE,
)
_INITIALS: Final = re.compile(r"(?:[A-Za-z]\.){2,}|(?:[A-Za-z]\.)+[A-Za-z]")
_RUNS: Final = re.compile(r"\d[\d,]*(?:\.\d+)?(?:(?:st|nd|rd|th)(?![A-Za-z]))?|[^\W\d_]+(?:'[^\W\d_]+)*|[^\s\w]|_")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_VOWELS: Final = frozenset("aeiouyAEIOUY")


def words(token: str, is_known: Callable[[str], bool]) -> list[str]:
    """The words that are said for one token without blanks; single capitals are letters' names.

    `is_known` says whether the dictionary has a word. A character that no English word stands for is a word.
    """
    token = _latin(token)
    whole = _whole(token)
    if whole is not None:
        return whole
    if _ADDRESS.fullmatch(token):
        return [word for run in _RUNS.findall(token) for word in _in_address(run, is_known)]
    said: list[str] = []
    runs = _RUNS.findall(token)
    for index, run in enumerate(runs):
        before = runs[index - 1] if index else ""
        after = runs[index + 1] if index + 1 < len(runs) else ""
        said += _run(run, before, after, is_known)
    return said


def is_sign(token: str) -> bool:
    """Whether a token is one sign that is read out."""
    return token in _SIGNS


def keeps_stop(token: str) -> bool:
    """Whether the full stop that a token ends with is of the token: `Dr.`, `U.S.`"""
    return token.casefold() in _ABBREVIATIONS or _INITIALS.fullmatch(token) is not None


def _latin(text: str) -> str:
    """Letters without accents, and compatibility forms as plain ones."""
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return "".join(char for char in plain if not unicodedata.combining(char)).replace("\u2044", "/")


def _whole(token: str) -> list[str] | None:
    """The words of a token that is one thing: an abbreviation, a number, initials."""
    if found := _ABBREVIATIONS.get(token.casefold()):
        return found.split()
    bare = token.rstrip(".,;:!?")
    if found := _FRACTIONS.get(bare):
        return found.split()
    number = english_numbers.words(bare)
    if number is not None:
        return number
    if bare[:1] == "-" and (number := english_numbers.words(bare[1:])) is not None:
        return ["minus", *number]
    return list(bare.replace(".", "").upper()) if _INITIALS.fullmatch(token) else None


def _in_address(run: str, is_known: Callable[[str], bool]) -> list[str]:
    if run.isdigit():
        return english_numbers.one_by_one(run)
    return _IN_ADDRESSES[run].split() if run in _IN_ADDRESSES else _letters(run, is_known)


def _run(run: str, before: str, after: str, is_known: Callable[[str], bool]) -> list[str]:
    """The words of a run of digits, of letters, or of a sign between `before` and `after`."""
    is_number = before[:1].isdigit()
    if run[0].isdigit():
        long = len(run) >= 3 and (before in {"-", "."} or after in {"-", "."})
        return english_numbers.one_by_one(run) if long and run.isdigit() else english_numbers.words(run) or []
    if run[0].isalpha():
        if is_number and (unit := _UNITS.get(run.casefold())):
            return unit.split()
        return _letters(run, is_known)
    if run in {"-", "\u2013"} and is_number and after[:1].isdigit():
        return ["to"] if len(before) < 3 and len(after) < 3 else []
    if run == "/" and is_number and after[:1].isdigit():
        return ["over"] if len(before) < 3 and len(after) < 3 else []
    return _SIGNS[run].split() if run in _SIGNS else [run] if unicodedata.category(run) in {"So", "Sm", "Sc"} else []


def _letters(run: str, is_known: Callable[[str], bool]) -> list[str]:
    """A word, several that were written together, or the names of its letters."""
    if is_known(run) or (len(run) == 1 and run.isascii()):
        return [run.upper() if len(run) == 1 and run not in {"a", "A", "I"} else run]
    parts = _CAMEL.split(run)
    if len(parts) > 1:
        return [word for part in parts for word in _letters(part, is_known)]
    stem = run.removesuffix("'s")
    body = stem.removesuffix("s") if stem[:-1].isupper() else stem
    is_name = body.isupper() and len(body) <= 5 and not is_known(body.lower())
    if body.isascii() and (is_name or not set(body) & _VOWELS) and len(body) <= 8:
        return [*body[:-1].upper(), body[-1:].upper() + ("'s" if stem != body or stem != run else "")]
    return [run]
