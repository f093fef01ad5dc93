"""Cutting a text into sentences loses nothing, whatever the text, and cuts where a reader would pause."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.sentences import MAX_CHARS, sentences

LIKE_PROSE = st.text(alphabet="aA1 \n.,!?…。、।\"')。Dr é\u0301\u200d", max_size=400)


def cut(text: str, max_chars: int = MAX_CHARS) -> list[str]:
    return [sentence.strip() for sentence in sentences(text, max_chars)]


@given(text=st.one_of(st.text(max_size=1000), LIKE_PROSE), max_chars=st.integers(min_value=8, max_value=300))
def test_the_sentences_joined_are_the_text_and_none_is_too_long(text: str, max_chars: int) -> None:
    parts = list(sentences(text, max_chars))
    assert "".join(parts) == text
    assert all(1 <= len(part) <= max_chars for part in parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ('"Stop." She did.', ['"Stop."', "She did."]),
        ("He left (at last). Good.", ["He left (at last).", "Good."]),
        ("你好。今天好吗？好！", ["你好。", "今天好吗？", "好！"]),
        ("「はい。」と言った。", ["「はい。」", "と言った。"]),
        ("नमस्ते। आप कैसे हैं?", ["नमस्ते।", "आप कैसे हैं?"]),
        ("كيف حالك؟ بخير.", ["كيف حالك؟", "بخير."]),
        ("A heading\n\nand a paragraph", ["A heading", "and a paragraph"]),
        ("Milk\n\nEggs\n \nBread", ["Milk", "Eggs", "Bread"]),
        ("No. I will not. See no. 5 there.", ["No.", "I will not.", "See no. 5 there."]),
        ("Er kam am 3. Oktober. Sie nicht.", ["Er kam am 3. Oktober.", "Sie nicht."]),
        ("He said “no.” “Why?” she asked.", ["He said “no.”", "“Why?” she asked."]),
    ],
)
def test_a_sentence_ends_at(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mr. Jones.",
        "It costs 3.14 dollars.",
        "J. R. R. Tolkien wrote it.",
        "Some birds, e.g. Ducks, swim.",
        "Wait... what is it?",
        "See https://example.org/a.b?c=d for more.",
        "The U.S. Army came.",
        "Das ist z.B. Papier, Tel. und usw. Lärm.",
        "Voir p.ex. Molière.",
        "1. First of all",
        "a line that was\nbroken in the middle",
        "This line was broken by somebody because a page is narrow, by\nNormal people that is.",
        "Anything.",
        "...",
    ],
)
def test_nothing_ends_within(text: str) -> None:
    assert cut(text) == [text]


def test_a_sentence_that_is_too_long_is_cut_behind_a_comma_else_a_space_else_anywhere() -> None:
    assert cut("one two three, four five", 20) == ["one two three,", "four five"]
    assert cut("one two three four five", 20) == ["one two three four", "five"]
    assert cut("x" * 45, 20) == ["x" * 20, "x" * 20, "x" * 5]
    assert cut("e\u0301" * 15, 9) == ["e\u0301" * 4] * 3 + ["e\u0301" * 3]


@pytest.mark.parametrize("unit", [".", " ", "a", "\n", "\n a", ".)", "1. ", "。", "!) ", "A.", ". x", "a,"])
def test_no_text_takes_long_to_cut(unit: str) -> None:
    text = unit * (200_000 // len(unit)) + "x"
    started = time.thread_time()
    assert "".join(sentences(text)) == text
    assert time.thread_time() - started < 3


def test_the_first_sentence_of_a_book_costs_no_more_than_that_of_a_line() -> None:
    line = "It was the best of times. "
    started = time.thread_time()
    assert next(iter(sentences(line * 800_000))) == line
    assert time.thread_time() - started < 0.5
