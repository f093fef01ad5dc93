"""Spells a text as a speech library can say it, and remembers where each character stood.

What a library would leave out or read as something else is written in another way: full-width and mathematical letters
as plain ones, a minus as the word of the language, a row of emoji with spaces, a word that is longer than the library's
own limit as several.
"""

import html
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from bus import ssml
from bus.sentences import sentences
from gpuworker.engines.text import markup
from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.edits import Edit, edited
from gpuworker.engines.text.numerals import in_digits
from gpuworker.engines.text.parts import Part

#: A longer word is cut. In letters, syllables of Hangul, bytes of UTF-8; letters of a script without spaces.
_MAX_LETTERS: Final = 40
_MAX_SYLLABLES: Final = 20
_MAX_BYTES: Final = 120
_MAX_UNSPACED: Final = 24
#: In such a script a change of alphabet, behind at least this many letters, is where a word may begin.
_MIN_UNSPACED: Final = 8

#: Compatibility forms that libraries have words for: `x²`, `½`.
_KEPT_FORMS: Final = ("<super>", "<sub>", "<fraction>")
#: Letters that dictionaries have in this form: Korean's lone jamo, Thai's and Lao's am.
_KEPT_LETTERS: Final = re.compile("[\u0e33\u0eb3\u3130-\u318f]")
#: A sign of punctuation that would become one of these stays: it may end a sentence only in its own form.
_PUNCTUATION: Final = frozenset(".,;:!?")
#: Accents, voicing marks of kana, and the vowels and endings of Hangul: they are one letter with the one before.
_CLUSTER: Final = re.compile(r"\s|\S[\u0300-\u036f\u1160-\u11ff\u3099\u309a\uff9e\uff9f]*")
#: A hyphen or minus that is the sign of a number.
MINUS: Final = re.compile(r"(?<![^\s(\[{\"'«“‘=:/<>|])-(?=[$€£¥]?\d)|\u2212(?=\s?[$€£¥]?\d)")  # noqa: RUF001
_INNER_STOP: Final = re.compile(r"(?:(?P<digit>\d)|(?<=\w))(?P<stop>\.)(?P<blank>[ \u00a0]+)(?=[^\W\d_])")
# fmt: off
#: Languages whose library reads over a hyphen before a digit, or says its sign in English.
_MINUS_WORDS: Final = {
    "ar": "ناقص", "az": "mənfi", "be": "мінус", "bg": "минус", "ca": "menys", "cmn": "负", "cy": "minws", "da": "minus",
    "es": "menos", "eu": "minus", "fa": "منفی", "fr": "moins", "ga": "lúide", "he": "מינוס", "hi": "माइनस",
    "hy": "մինուս", "ia": "minus", "io": "minus", "is": "mínus", "ja": "マイナス", "ka": "მინუს", "kk": "минус",
    "ko": "마이너스", "ky": "минус", "la": "minus", "mr": "उणे", "pl": "minus", "pt": "menos", "ru": "минус",
    "sk": "mínus", "sl": "minus", "sq": "minus", "sw": "hasi", "th": "ลบ", "tr": "eksi", "tt": "минус", "ur": "منفی",
    "uz": "minus", "yue": "負",
}
# fmt: on
#: Scripts without spaces between words.
UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_IS_UNSPACED: Final = re.compile(f"[{UNSPACED}]")
#: Each is spoken as a word of its own.
_HAN: Final = re.compile("[\u2e80-\u2fff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_CHEROKEE: Final = re.compile("[\u13a0-\u13f5\u13f8-\u13fd\uab70-\uabbf]")
_LONG_WORD: Final = re.compile(rf"[^\s\d!-/:-@\[-`{{-~]{{{_MAX_SYLLABLES + 1},}}")
#: Kana and vowel signs that never begin a word.
_BOUND: Final = frozenset(
    "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮー゛゜\u200d\ufe0e\ufe0f\u0e30\u0e32\u0e33\u0e45\u0e46"
)
_PICTURE: Final = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"
    "|[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff][\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff]*"
    "(?:\u200d[\u2600-\u27bf\U0001f000-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]*)*"
)


def spell(part: Part, language: str) -> Part:
    """`part`, plain text or SSML, as it is said in `language`, a BCP 47 tag."""
    is_document = ssml.is_document(part.text)
    if is_document:
        part = edited(part, _breaks(part.text[part.body.start : part.body.stop]))
    for find in (
        _folds,
        lambda text: _syllables(text, language),
        lambda text: _minuses(text, language),
        lambda text: _stops(text, language),
        lambda text: in_digits(text, language),
        _spaces,
    ):
        part = edited(part, _in_document(part, find) if is_document else find(part.text))
    return part


def with_spaces(part: Part, places: Iterable[int]) -> Part:
    """`part` with a space at each of `places` of its body, in order."""
    return edited(part, (Edit(place - part.body.start, place - part.body.start, " ") for place in places))


def plainer(part: Part, words: Iterable[Span]) -> Part | None:
    """`part` with `words` of its body, in order, without accents and with the digits 0 to 9; None if that is no change.

    For words that have no sound as they are: `ạ̈`, `¾` and `١٢٣` are letters that a voice may not have.
    """
    first = part.body.start
    edits = [
        Edit(place - first, place - first + 1, plain)
        for start, end in words
        for place in range(start, end)
        if (plain := _plain(part.text[place])) != part.text[place]
    ]
    return edited(part, edits) if edits else None


def _plain(char: str) -> str:
    if char.isdecimal():
        return str(int(char))
    letters = unicodedata.normalize("NFKD", char).replace("\u2044", "/")
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _in_document(part: Part, find: Callable[[str], Iterable[Edit]]) -> Iterator[Edit]:
    """The edits of a document's text, without those that would change markup or entities."""
    plain = markup.plain(part.text)[part.body.start : part.body.stop]
    body = part.text[part.body.start : part.body.stop]
    for edit in find(plain):
        start, end = (edit.start, edit.end) if edit.end > edit.start else (max(edit.start - 1, 0), edit.start + 1)
        if plain[start:end] == body[start:end]:
            yield edit._replace(text=html.escape(edit.text, quote=False))


def _breaks(document: str) -> Iterator[Edit]:
    """The times of `break` in milliseconds: of `1.5s` the library makes no pause."""
    for tag in ssml.BREAK.finditer(document):
        milliseconds = ssml.break_ms(tag)
        if milliseconds is not None:
            time = ssml.TIME.search(document, tag.start(), tag.end())
            assert time is not None
            yield Edit(time.start(), time.end(), f'time="{milliseconds}ms"')


def _stops(text: str, language: str) -> Iterator[Edit]:
    """Full stops within a sentence, at which the library would end one: of an ordinal and of an abbreviation."""
    if "." not in text:
        return
    ends = set(itertools.accumulate(map(len, sentences(text, language=language))))
    for stop in _INNER_STOP.finditer(text):
        if stop.end("blank") in ends:
            continue
        if stop["digit"]:  # `3. oktober` is the third, `3. Oktober` the end of a sentence
            letter = text[stop.end() : stop.end() + 1]
            yield Edit(stop.end(), stop.end() + 1, letter.lower())
        else:
            yield Edit(stop.start("stop"), stop.end("stop"), "")


def _folds(text: str) -> Iterator[Edit]:
    """Blanks as spaces, letters with their accents as one, compatibility forms as plain letters, digits and signs."""
    if text.isascii() and text.isprintable():
        return
    for match in _CLUSTER.finditer(text):
        found = match.group()
        folded = " " if found.isspace() else _fold(found)
        if folded != found:
            yield Edit(match.start(), match.end(), folded)


def _fold(letter: str) -> str:
    if len(letter) > 1:
        narrow = letter[0] >= "\uff61"
        return unicodedata.normalize("NFKC" if narrow else "NFC", letter)
    form = unicodedata.decomposition(letter)
    if not form.startswith("<") or form.startswith(_KEPT_FORMS) or _KEPT_LETTERS.match(letter):
        return letter
    plain = unicodedata.normalize("NFKC", letter)
    return letter if plain.isspace() or _PUNCTUATION.issuperset(plain) else plain


def _syllables(text: str, language: str) -> Iterator[Edit]:
    """Cherokee syllables by their names, of which the library knows the letters: `CHEROKEE LETTER TSA` is `tsa`."""
    if not language.startswith("chr"):
        return
    for match in _CHEROKEE.finditer(text):
        yield Edit(match.start(), match.end(), unicodedata.name(match.group()).rpartition(" ")[2].lower())


def _minuses(text: str, language: str) -> Iterator[Edit]:
    if "-" not in text and "\u2212" not in text:
        return
    word = _MINUS_WORDS.get(language) or _MINUS_WORDS.get(language.partition("-")[0])
    sign = f"{word} " if word else "\u2212"
    for match in MINUS.finditer(text):
        yield Edit(match.start(), match.end(), sign)


def _spaces(text: str) -> Iterator[Edit]:
    """A space wherever the library would lose the rest of a word, or speak a row of pictures as one."""
    places: set[int] = set()
    for word in _LONG_WORD.finditer(text):
        places.update(_cuts(text, word.start(), word.end()))
    before = -1
    if not text.isascii():
        for picture in _PICTURE.finditer(text):
            if picture.start() == before:
                places.add(before)
            before = picture.end()
    for place in sorted(places):
        yield Edit(place, place, " ")


def _cuts(text: str, start: int, end: int) -> Iterator[int]:
    """Where the word from `start` to `end` is cut into words that a library speaks to their end."""
    word_start = start
    for place in range(start + 1, end):
        char = text[place]
        if _HAN.match(text[place - 1]) or unicodedata.combining(char) or char in _BOUND:
            word_start = max(word_start, place - 1 if _HAN.match(text[place - 1]) else word_start)
            continue
        length = place - word_start
        if _IS_UNSPACED.match(char):
            turns = unicodedata.name(char, "")[:4] != unicodedata.name(text[place - 1], "")[:4]
            is_over = length >= _MAX_UNSPACED or (turns and length >= _MIN_UNSPACED)
        else:
            most = _MAX_SYLLABLES if "\uac00" <= char <= "\ud7a3" else _MAX_LETTERS
            is_over = length >= most or len(text[word_start : place + 1].encode()) > _MAX_BYTES
        if is_over:
            yield place
            word_start = place
