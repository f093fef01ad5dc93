"""Numbers that espeak-ng does not read to their end: it says `1000` for Ukrainian `1000000`, and `5` for Guarani `25`.

Its rules for numbers have gaps in some languages, where it leaves words out and reports success. There a number beyond
the gap is read digit by digit, in words of ours where the library has none. `tests/engines/test_numerals.py` looks for
the gaps of every language.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from gpuworker.engines.text.edits import Edit

_T = TypeVar("_T")

# fmt: off
#: Most digits of a number that the library says to its end; in other languages `_MOST`.
_DIGITS: Final = {
    "ar": 12, "be": 9, "bpy": 4, "chr": 0, "cv": 0, "ga": 12, "gn": 1, "haw": 1, "ht": 1, "ia": 6, "kk": 12, "ku": 9,
    "la": 9, "lb": 1, "lt": 10, "mk": 6, "mt": 9, "mto": 3, "my": 5, "nci": 1, "om": 5, "qdb": 6, "quc": 1, "qya": 1,
    "shn": 2, "si": 9, "sjn": 0, "sl": 7, "smj": 9, "tn": 7, "uk": 6, "yue": 9,
}
# fmt: on
#: After a number of 15 digits the library says others wrong: German `Milliarde` becomes `Billion`.
_MOST: Final = 14
#: Most digits behind a decimal point that are not read one by one.
_MOST_DECIMALS: Final = 9


def _names(words: str) -> Mapping[int, str]:
    return dict(enumerate(words.split()))


#: Words for digits that the library has no word for, or a wrong one. Zero is `nothing` in languages that have none.
_WORDS: Final[Mapping[str, Mapping[int, str]]] = {
    "chr": _names("tla sagwu tali tsoi nvgi hisgi sudali galigwogi tsunela sonela"),
    "cv": _names("нуль пӗр иккӗ виҫҫӗ тӑваттӑ пиллӗк улттӑ ҫиччӗ саккӑр тӑххӑр"),
    "quc": {0: "maj"},
    "qya": {0: "lusta"},
    "si": {6: "හය", 7: "හත"},
    "sjn": _names("lost mîn tâd neledh canad leben eneg odog tolodh neder"),
}


def _number(signs: str) -> re.Pattern[str]:
    """The digits behind a decimal point; or a number, whole or in groups of three with one of `signs` between them."""
    groups = rf"\d{{1,3}}(?:(?P<sign>[{signs}])\d{{3}}(?!\d))(?:(?P=sign)\d{{3}}(?!\d))*"
    return re.compile(rf"(?P<decimals>(?<=\d[.,])\d+)|(?<![.,\d]){groups}|\d+")


_NUMBER: Final = _number(".,")
#: Languages of the table in which the library reads groups with spaces between them as one number.
_SPACED: Final = {"sl": _number("., "), "smj": _number("., ")}


def in_digits(text: str, language: str) -> Iterator[Edit]:
    """Numbers that the library would not say to their end in `language`, a BCP 47 tag, as their digits."""
    most = _of(_DIGITS, language, _MOST)
    words = _of(_WORDS, language, {})
    for match in _of(_SPACED, language, _NUMBER).finditer(text):
        number, start = match.group(), match.start()
        kept = min(most, _MOST_DECIMALS) if match["decimals"] else most
        if sum(map(str.isdecimal, number)) > kept or (len(number) == 1 and int(number) in words):
            first = max(1, kept) if match["decimals"] else 1
            yield from _apart(text, range(start, match.end()), first, words)


def _apart(text: str, number: range, first: int, words: Mapping[int, str]) -> Iterator[Edit]:
    """The digits of `number`, places of `text`, with spaces between them from the digit `first` on."""
    for index, place in enumerate(number):
        if not text[place].isdecimal():
            yield Edit(place, place + 1, "")
            continue
        word = words.get(int(text[place]), text[place])
        if word != text[place]:
            after = text[place + 1 : place + 2] or " "
            word += "" if after.isspace() or after.isdecimal() else " "
        needs_blank = index >= first or (word != text[place] and place > 0 and not text[place - 1].isspace())
        yield Edit(place, place + 1, f" {word}" if needs_blank else word)


def _of(table: Mapping[str, _T], language: str, default: _T) -> _T:
    """The entry of a language, or of the language that it is a kind of."""
    return table.get(language, table.get(language.partition("-")[0], default))
