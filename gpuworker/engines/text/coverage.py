"""Which words of a text were spoken: compares a library's word events, and its phonemes, with the text.

A library that drops what does not fit its buffers returns success, so each token is looked for. It was spoken if an
event begins in it, or if the phonemes are others without it (`the` of `of the` has no event of its own). Pure; imports
the standard library only, for the helper process has it too.
"""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

#: (start, end) in characters.
Span = tuple[int, int]
#: The phonemes of a text: one string for each of its clauses, with a blank behind each phoneme.
Phonemes = Callable[[str], Sequence[str]]

#: Most phonemes of a clause. The library's buffer holds 1000, with changes of language and marks that it does not
#: report: words were lost behind the 712th.
MAX_PHONEMES: Final = 600
#: A longer token is also tested for its end.
_LONG_TOKEN: Final = 20
#: Context of a token whose phonemes are compared: a whole sentence, for what was left out depends on what is before it.
_CONTEXT_CHARS: Final = 600
#: Most kana, Han and Hangul of a clause: the buffer of letters has 800 bytes, and words were lost from some 200 on.
_MAX_WIDE: Final = 120
_WIDE: Final = re.compile("[\u2e80-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")
#: Text that has at most one clause.
_STRETCH: Final = re.compile(r"(?:[^.!?,;:\n]|[.!?,;:](?!\s))+")
_TOKEN: Final = re.compile(r"\S+")
_NOT_SOUND: Final = re.compile(r"[\s',_%=:|!;-]|\([a-z-]*\)")


def is_word(text: str) -> bool:
    """Whether a token has a letter or a digit; the modifier letters are signs, such as a lone `ʻ`."""  # noqa: RUF002
    return any(char.isalnum() and not "\u02b0" <= char <= "\u02ff" for char in text)


def tokens(text: str, body: range) -> list[Span]:
    """The tokens of `text` within `body` that are to be spoken: all but punctuation."""
    found = (match.span() for match in _TOKEN.finditer(text, body.start, body.stop))
    return [(start, end) for start, end in found if _is_spoken(text[start:end])]


def _is_spoken(token: str) -> bool:
    return (token.isascii() and is_word(token)) or any(_sounds(char) for char in token)


def _sounds(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char) in {"So", "Sm", "Sc"}


def is_too_long(text: str, phonemes: Phonemes) -> bool:
    """Whether a clause of `text` does not fit the library's buffers: that of phonemes, or that of letters."""
    if any(len(clause.split()) > MAX_PHONEMES for clause in phonemes(text)):
        return True
    return any(len(_WIDE.findall(stretch.group())) > _MAX_WIDE for stretch in _STRETCH.finditer(text))


def long_words(text: str, wanted: Sequence[Span], phonemes: Phonemes) -> list[Span]:
    """Those of the tokens `wanted` that do not fit the library's buffer for a word: their last third has no sound."""
    return [
        (start, end) for start, end in wanted if end - start > _LONG_TOKEN and not _has_end(text[start:end], phonemes)
    ]


def silent(text: str, wanted: Sequence[Span], phonemes: Phonemes) -> list[Span]:
    """Words among the tokens `wanted`, and words of another script within one, that have no sound, alone or in `text`.

    Found before `text` is spoken: nothing can be put behind the words before them any more once those are sent.
    """
    runs = [run for span in wanted for run in _runs(text, *span)]
    return unspoken(text, [run for run in runs if not _sound(text[slice(*run)], phonemes)], (), phonemes)


def _runs(text: str, start: int, end: int) -> Iterator[Span]:
    """A token, or the stretches of two letters and more that are in different scripts."""
    token = text[start:end]
    if not is_word(token):
        return
    letters = [] if token.isascii() else [place for place in range(start, end) if text[place].isalpha()]
    if len({_script(text[place]) for place in letters}) < 2:
        yield start, end
        return
    for _, run in itertools.groupby(enumerate(letters), lambda each: (_script(text[each[1]]), each[1] - each[0])):
        places = [place for _, place in run]
        if len(places) > 1:
            yield places[0], places[-1] + 1


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def unspoken(text: str, wanted: Sequence[Span], starts: Iterable[int], phonemes: Phonemes) -> list[Span]:
    """Those of the tokens `wanted` that were not spoken. `starts`: where word events began."""
    events = sorted(starts)
    lost: list[Span] = []
    at = 0
    first = wanted[0][0] if wanted else 0
    for start, end in wanted:
        while at < len(events) and events[at] < start:
            at += 1
        if at < len(events) and events[at] < end:
            continue
        begin = max(first, start - _CONTEXT_CHARS)
        if _sound(text[begin:end], phonemes) == _sound(text[begin:start], phonemes):
            lost.append((start, end))
    return lost


def _has_end(token: str, phonemes: Phonemes) -> bool:
    """Whether the last third of a long token sounds."""
    while not _sounds(token[-1]):
        token = token[:-1]
    return _sound(token, phonemes) != _sound(token[: -(len(token) // 3)], phonemes)


def _sound(text: str, phonemes: Phonemes) -> str:
    return _NOT_SOUND.sub("", "".join(phonemes(text))) if text.strip() else ""
