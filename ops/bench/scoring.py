"""Word error rates: which words of a list of sentences a recogniser did not return, with numbers made comparable."""

import re
from collections.abc import Sequence
from typing import Final

_ONES: Final = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "  # noqa: SIM905
    "seventeen eighteen nineteen".split()
)
_TENS: Final = tuple("twenty thirty forty fifty sixty seventy eighty ninety".split())  # noqa: SIM905
_VALUES: Final = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: 10 * value for value, word in enumerate(_TENS, 2)},
}


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; every number below a thousand as its digits."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower().replace("%", " percent ").replace("dr.", "doctor"))
    text = re.sub(r"\$\s?(\d+)", r"\1 dollars", text)
    text = re.sub(r"(\d)(?:st|nd|rd|th)\b", r"\1", text).replace("'", "").replace("’", "")  # noqa: RUF001
    plain: list[str] = re.findall(r"\d|[^\W\d_]+", text)
    found: list[str] = []
    at = 0
    while at < len(plain):
        if plain[at] in _VALUES:
            value, at = _number(plain, at)
            found += str(value)
        else:
            found.append(plain[at])
            at += 1
    return found


def _number(plain: Sequence[str], at: int) -> tuple[int, int]:
    """The number that begins at `at` (`four hundred and twelve` is 412), and the place behind it."""
    value = _VALUES[plain[at]]
    at += 1
    if value >= 20 and at < len(plain) and 0 < _VALUES.get(plain[at], 10) < 10:
        value += _VALUES[plain[at]]
        at += 1
    if value < 100 and plain[at : at + 1] == ["hundred"]:
        value *= 100
        at += 1
        rest = at + (plain[at : at + 1] == ["and"])
        if rest < len(plain) and plain[rest] in _VALUES:
            more, at = _number(plain, rest)
            value += more
    return value, at


def errors(sentences: Sequence[str], recognised: str) -> list[int]:
    """For each sentence, how many of its words are missing, wrong or doubled in a recording of all of them, in order.

    Words that were added count for the sentence before them.
    """
    wanted = [(word, index) for index, sentence in enumerate(sentences) for word in words(sentence)]
    given = words(recognised)
    costs = [list(range(len(given) + 1))]
    for row, (word, _) in enumerate(wanted, 1):
        before = costs[-1]
        current = [row]
        for column, other in enumerate(given, 1):
            current.append(min(before[column - 1] + (word != other), before[column] + 1, current[-1] + 1))
        costs.append(current)
    counts = [0] * len(sentences)
    row, column = len(wanted), len(given)
    while row or column:
        word, index = wanted[max(0, row - 1)]
        is_same = row > 0 and column > 0 and word == given[column - 1]
        if row and column and costs[row][column] == costs[row - 1][column - 1] + (not is_same):
            counts[index] += not is_same
            row -= 1
            column -= 1
        elif row and costs[row][column] == costs[row - 1][column] + 1:
            counts[index] += 1
            row -= 1
        else:
            counts[index] += 1
            column -= 1
    return counts
