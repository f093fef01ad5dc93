"""Text that arrives in pieces, cut into sentences: nothing is lost, nothing depends on how it came, nothing comes early."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.sentences import sentences
from gateway.sockets.splitter import MAX_CHARS, Granularity, Splitter

LIKE_PROSE = st.text(alphabet="aA1 \n.,!?…。、।؟;:\"')(“”。Dr é\u0301\u200d", max_size=400)
TEXTS = st.one_of(st.text(max_size=600), LIKE_PROSE)
GRANULARITIES = st.sampled_from(["none", "sentence", "clause"])


def split(*parts: str, granularity: Granularity = "sentence", max_chars: int = MAX_CHARS) -> list[str]:
    splitter = Splitter(granularity, max_chars)
    return [piece for part in parts for piece in splitter.feed(part)] + splitter.finish()


def stripped(*parts: str, granularity: Granularity = "sentence") -> list[str]:
    return [piece.strip() for piece in split(*parts, granularity=granularity)]


@given(parts=st.lists(TEXTS, max_size=8), granularity=GRANULARITIES, max_chars=st.integers(4, 300))
def test_what_comes_out_joined_is_what_went_in(parts: list[str], granularity: Granularity, max_chars: int) -> None:
    pieces = split(*parts, granularity=granularity, max_chars=max_chars)
    assert "".join(pieces) == "".join(parts)
    assert all(pieces)
    if granularity != "none":
        assert max(map(len, pieces), default=0) <= max_chars


@given(
    text=TEXTS, cuts=st.lists(st.integers(0, 600), max_size=12), granularity=GRANULARITIES, max_chars=st.integers(4, 90)
)
def test_where_the_text_was_cut_on_its_way_changes_nothing(
    text: str, cuts: list[int], granularity: Granularity, max_chars: int
) -> None:
    places = [0, *sorted(cuts), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    whole = split(text, granularity=granularity, max_chars=max_chars)
    assert split(*parts, granularity=granularity, max_chars=max_chars) == whole
    assert split(*text, granularity=granularity, max_chars=max_chars) == whole


@given(parts=st.lists(TEXTS, max_size=8), max_chars=st.integers(4, 300))
def test_a_text_in_parts_gives_the_sentences_that_an_engine_cuts_from_the_whole_text(
    parts: list[str], max_chars: int
) -> None:
    assert split(*parts, max_chars=max_chars) == list(sentences("".join(parts), max_chars))


@given(parts=st.lists(TEXTS, max_size=8))
def test_an_engine_does_not_cut_a_sentence_of_the_splitter_again(parts: list[str]) -> None:
    for piece in split(*parts):
        assert list(sentences(piece)) == [piece]
        if spoken := piece.strip():
            assert list(sentences(spoken)) == [spoken]


@given(parts=st.lists(TEXTS, max_size=5), granularity=GRANULARITIES)
def test_it_knows_how_much_it_holds_and_is_as_new_after_the_end(parts: list[str], granularity: Granularity) -> None:
    splitter = Splitter(granularity)
    given_chars = sum(len(piece) for part in parts for piece in splitter.feed(part))
    assert splitter.num_held_chars == sum(map(len, parts)) - given_chars
    splitter.finish()
    assert splitter.num_held_chars == 0
    assert splitter.finish() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("Wait... Who is it?", ["Wait...", "Who is it?"]),
        ('"Stop." She did.', ['"Stop."', "She did."]),
        ("He said “no.” “Why?” she asked.", ["He said “no.”", "“Why?” she asked."]),
        ("He left (at last). Good.", ["He left (at last).", "Good."]),
        ("**Bold.** _Plain._ End.", ["**Bold.**", "_Plain._", "End."]),
        ("¿Qué tal? ¡Bien! Gracias.", ["¿Qué tal?", "¡Bien!", "Gracias."]),
        ("Er kam am 3. Oktober. Sie nicht.", ["Er kam am 3. Oktober.", "Sie nicht."]),
        ("Hunde usw. Katzen. Das war's.", ["Hunde usw. Katzen.", "Das war's."]),
        ("你好。今天好吗？好！", ["你好。", "今天好吗？", "好！"]),
        ("「はい。」と言った。", ["「はい。」", "と言った。"]),
        ("नमस्ते। आप कैसे हैं?", ["नमस्ते।", "आप कैसे हैं?"]),
        ("كيف حالك؟ بخير.", ["كيف حالك؟", "بخير."]),
        ("آپ کیسے ہیں؟ میں ٹھیک ہوں۔ شکریہ۔", ["آپ کیسے ہیں؟", "میں ٹھیک ہوں۔", "شکریہ۔"]),
        ("A heading\n\nand a paragraph", ["A heading", "and a paragraph"]),
        ("Milk\n\nEggs\n \nBread", ["Milk", "Eggs", "Bread"]),
        ("No. I will not. See no. 5 there.", ["No.", "I will not.", "See no. 5 there."]),
    ],
)
def test_a_sentence_ends_at(text: str, expected: list[str]) -> None:
    assert stripped(text) == expected
    assert stripped(*text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mr. Jones.",
        "It costs 3.14 dollars, or 1,000.50 yen.",
        "J. R. R. Tolkien wrote it.",
        "Some birds, e.g. Ducks, swim at 5 p.m. Sharp.",
        "Wait... what is it?",
        "“Stop!” he said.",
        "They sell pens etc. (and more)",
        "See https://example.org/a.b?c=d for more.",
        "The U.S. Army came.",
        "1. First of all",
        "Das ist z.B. Papier.",
        "a line that was\nbroken in the middle",
        "...",
    ],
)
def test_nothing_ends_within(text: str) -> None:
    assert stripped(*text) == [text]


@pytest.mark.parametrize("end", ["Hello.", "Hello. ", "Hello!\n", "你好。", "Hello! “", "Hello...", "Hello, "])
@pytest.mark.parametrize("granularity", ["sentence", "clause"])
def test_nothing_is_given_before_the_next_letter_makes_it_sure(end: str, granularity: Granularity) -> None:
    splitter = Splitter(granularity)
    assert splitter.feed(end) == []
    assert splitter.num_held_chars == len(end)
    assert splitter.finish() == [end]


def test_a_sentence_is_given_with_the_first_letter_of_the_next() -> None:
    splitter = Splitter()
    assert [splitter.feed(part) for part in ("Hel", "lo there", ".", " ", "W")] == [[], [], [], [], ["Hello there. "]]
    assert [splitter.feed(part) for part in ("orld", "!", " it is")] == [[], [], []]
    assert splitter.finish() == ["World! it is"]


def test_clauses_end_at_pauses_and_are_not_too_short() -> None:
    text = "Yes, but first, if you do not mind waiting, I will count 1,000 sheep; then we sleep. Good"
    assert stripped(*text, granularity="clause") == [
        "Yes, but first, if you do not mind waiting,",
        "I will count 1,000 sheep;",
        "then we sleep.",
        "Good",
    ]
    assert stripped("如果你不介意的话，我先走了。再见", granularity="clause") == [
        "如果你不介意的话，",
        "我先走了。",
        "再见",
    ]


@pytest.mark.parametrize("before", ["", "\n ", "<?xml version='1.0'?> <!-- Hi. There. -->"])
def test_a_document_is_one_piece_however_it_arrives(before: str) -> None:
    document = f"{before}<speak>Hello. <break/> You.\n\n{'Word ' * 100}</speak>\n"
    assert split(*document, "Then. ", *"More. Text") == [document, "Then. ", "More. ", "Text"]
    assert split(document, "<speaker> said. Hi", granularity="clause") == [document, "<speaker> said. ", "Hi"]
    assert split(*document[:50]) == [document[:50]], "its end never came"


def test_without_a_granularity_a_piece_is_all_that_came() -> None:
    assert split("One. ", "Two. ", "x" * 1000, granularity="none") == ["One. Two. " + "x" * 1000]


def test_a_sentence_that_is_too_long_is_cut_behind_a_comma_else_a_space_else_anywhere() -> None:
    def cut(text: str, max_chars: int) -> list[str]:
        return [piece.strip() for piece in split(*text, max_chars=max_chars)]

    assert cut("one two three, four five", 20) == ["one two three,", "four five"]
    assert cut("one two three four five", 20) == ["one two three four", "five"]
    assert cut("x" * 45, 20) == ["x" * 20, "x" * 20, "x" * 5]
    assert cut("e\u0301" * 15, 9) == ["e\u0301" * 4] * 3 + ["e\u0301" * 3]


@pytest.mark.parametrize("unit", [".", " ", "a", "\n", "\n a", ".)", "1. ", "。", "!) ", "A.", ". x", "a,", ". ("])
def test_no_text_takes_long_to_split(unit: str) -> None:
    text = unit * (20_000 // len(unit)) + "x"
    started = time.process_time()
    assert "".join(split(text, granularity="clause")) == text
    assert "".join(split(*text, granularity="clause")) == text
    assert time.process_time() - started < 2


@pytest.mark.parametrize(("language", "pieces"), [("da", 2), ("it", 1), ("", 1)])
def test_the_language_of_the_voice_decides_what_an_abbreviation_is(language: str, pieces: int) -> None:
    text = "Han vasker sig. Hun går ud nu."
    splitter = Splitter(language=language)
    found = [piece for char in text for piece in splitter.feed(char)] + splitter.finish()
    assert found == list(sentences(text, language=language))
    assert len(found) == pieces
