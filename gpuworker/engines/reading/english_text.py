"""English text as the words that are said: numbers, signs, abbreviations, capitals and addresses written out."""

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from gpuworker.engines.reading import english_context, english_numbers
from gpuworker.engines.reading.english_counting import one_by_one
from gpuworker.engines.reading.english_tables import IN_ADDRESSES, SIGNS, UNITS

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
#: A path, or a name of a file.
_PATH: Final = re.compile(r"[~.]{0,2}/[\w.-]+(?:/[\w.-]*)+|~/\S+|[A-Za-z]:\\\S+|\w[\w-]*\.[a-z]{1,4}")
_INITIALS: Final = re.compile(r"(?:[A-Za-z]\.){2,}|(?:[A-Za-z]\.)+[A-Za-z]|Ph\.D\.?")
#: Accents, vowels and the like of other scripts, and joiners: they belong to the letter before them.
_MARKS: Final = "".join(chr(code) for code in range(0x300, 0x1100) if unicodedata.category(chr(code))[0] == "M")
_LETTER: Final = rf"[^\W\d_²³][{_MARKS}\u200c\u200d]*"
_RUNS: Final = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:(?:st|nd|rd|th)(?![A-Za-z]))?"
    rf"|(?:{_LETTER})+(?:'(?:{_LETTER})+)*|[^\s\w]|[_²³]"
)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_VOWELS: Final = frozenset("aeiouyAEIOUY")


def words(token: str, is_known: Callable[[str], bool], before: str = "", after: str = "") -> list[str]:
    """The words that are said for one token without blanks; single capitals are letters' names.

    `is_known` says whether the dictionary has a word. A character that no English word stands for is a word.
    `before`, `after`: the tokens beside it, "" where a sign of punctuation stands between.
    """
    token = _latin(token)
    whole = english_context.words(token, before, after) or _whole(token)
    if whole is not None:
        return whole
    if _ADDRESS.fullmatch(token) or _PATH.fullmatch(token):
        return [word for run in _RUNS.findall(token) for word in _in_address(run, is_known)]
    if token[:1] == "#" and token[1:2].isalpha():
        return ["hashtag", *words(token[1:], is_known)]
    said: list[str] = []
    runs = _RUNS.findall(token.replace("!=", "≠"))
    for index, run in enumerate(runs):
        earlier = runs[index - 1] if index else ""
        later = runs[index + 1] if index + 1 < len(runs) else ""
        said += _run(run, earlier, later, is_known)
    return said


def is_sign(token: str) -> bool:
    """Whether a token is one sign that is read out."""
    return token in SIGNS


def keeps_stop(token: str) -> bool:
    """Whether the full stop that a token ends with is of the token: `Dr.`, `U.S.`"""
    stem = token.casefold().removesuffix(".")
    return english_context.is_abbreviation(stem) or _INITIALS.fullmatch(token) is not None


def _latin(text: str) -> str:
    """Latin letters without accents, and compatibility forms as plain ones; `2½` is `2 1/2`."""
    plain = ""
    for char in text.translate(_LETTERS):
        found = char if char in SIGNS else unicodedata.normalize("NFKD", char)
        if unicodedata.category(found[0]) in {"Nl", "No"} and found not in SIGNS:
            found = f"{unicodedata.numeric(found[0]):g}"  # the ideographic zero
        if unicodedata.combining(char) or not found[0].isascii() or found[0] == " ":
            is_accent = unicodedata.combining(char) and plain[-1:].isascii()
            plain += "" if is_accent else char
            continue
        blank = " " if unicodedata.decomposition(char).startswith("<fraction>") and plain[-1:].isdigit() else ""
        plain += blank + "".join(each for each in found if not unicodedata.combining(each))
    return plain.replace("\u2044", "/")


def _whole(token: str) -> list[str] | None:
    """The words of a token that is one thing: a number with or without its sign, initials."""
    bare = token.rstrip(".,;:!?")
    number = english_numbers.words(bare)
    if number is not None:
        return number
    sign = {"-": "minus", "−": "minus", "+": "plus"}.get(bare[:1])
    if sign and (number := english_numbers.words(bare[1:])) is not None:
        return [sign, *number]
    return list(bare.replace(".", "").upper()) if _INITIALS.fullmatch(token) else None


def _in_address(run: str, is_known: Callable[[str], bool]) -> list[str]:
    if run[0].isdecimal():
        return [word for char in run for word in _in_number(char)]
    return IN_ADDRESSES[run].split() if run in IN_ADDRESSES else _letters(run, is_known)


def _in_number(char: str) -> list[str]:
    return one_by_one(char) if char.isdecimal() else IN_ADDRESSES.get(char, "").split()


def _run(run: str, before: str, after: str, is_known: Callable[[str], bool]) -> list[str]:
    """The words of a run of digits, of letters, or of a sign between `before` and `after`."""
    is_number = before[:1].isdecimal()
    if run[0].isdecimal():
        long = len(run) >= 3 and (before in {"-", "."} or after in {"-", "."})
        if long and run.isdecimal():
            return one_by_one(run)
        return english_numbers.words(run) or one_by_one("".join(filter(str.isdecimal, run)))
    if run[0].isalnum() and run not in SIGNS:
        if run in {"x", "X"} and is_number and after[:1].isdigit():
            return ["times"]
        if "&" in {before, after} and run.isupper() and len(run) <= 3:
            return list(run)
        return _letters(run, is_known)
    return _sign(
        run, is_number=is_number, joins=is_number and after[:1].isdigit(), is_short=max(len(before), len(after)) < 3
    )


def _sign(sign: str, *, is_number: bool, joins: bool, is_short: bool) -> list[str]:
    """The words of a sign; `joins` two numbers, which may be short."""
    if joins and sign in {"-", "\u2013"}:
        return ["to"] if is_short else []
    if joins and sign in {"*", "^"}:
        return ["times"] if sign == "*" else ["to", "the", "power", "of"]
    if is_number and sign in UNITS:
        return UNITS[sign][1].split()
    if sign in SIGNS:
        return SIGNS[sign].split()
    return [sign] if unicodedata.category(sign) in {"So", "Sm", "Sc"} else []


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
