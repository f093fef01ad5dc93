"""A text is spoken to its end, or its job fails and names the words."""

import re
from collections.abc import Sequence

import pytest

from gpuworker.conformance.driving import Output, resumed, run
from gpuworker.engine import Completeness, EngineJob, Mark, TextLost
from gpuworker.engines.speech import espeak, flite
from gpuworker.engines.speech.engine import Speech
from gpuworker.engines.text import coverage
from gpuworker.engines.text.parts import Part

NUMBERS = " ".join(map(str, range(1, 101)))
KANA = (
    "これはとてもながいぶんしょうでありましてくぎりがないのでさいごまでよまれるかどうかをためすためのものですが"
    "どうなるでしょうかときいてみたいとおもいますのでよろしくおねがいいたしますといいながらまだまだつづきます"
)


def say(speech: Speech, text: str, voice: str = "") -> Output:
    return run(speech, EngineJob(id="j", input=text, voice=voice))


def words(marks: Sequence[Mark], text: str) -> list[str]:
    return [text[mark.start : mark.start + mark.length] for mark in marks if mark.kind == "word"]


@pytest.mark.parametrize("voice", ["de", "en-us", "fr-fr", "ru", "nl", "hi", "ko"])
def test_a_hundred_numbers_are_spoken_in_order_once(speech: Speech, voice: str) -> None:
    output = say(speech, NUMBERS, voice)
    assert words(output.marks, NUMBERS) == NUMBERS.split()
    assert output.done
    assert output.done.completeness is Completeness.WORDS
    assert output.done.skipped == ()


def test_order_numbers_in_a_row_with_text_behind_them(speech: Speech) -> None:
    text = " ".join(str(number) for number in range(777_000, 777_040)) + ", and then the end."
    assert words(say(speech, text, "de").marks, text) == re.findall(r"\w+", text)


def test_twice_as_many_emoji_last_twice_as_long(speech: Speech) -> None:
    short, long = (say(speech, "😀" * number) for number in (25, 100))
    assert 3.8 < long.end_frame / short.end_frame < 4.2
    assert words(long.marks, "😀" * 100) == ["😀"] * 100


def test_a_japanese_sentence_without_a_comma_is_as_long_as_its_halves(speech: Speech) -> None:
    half = len(KANA) // 2
    whole, *parts = (say(speech, text, "ja").end_frame for text in (KANA, KANA[:half], KANA[half:]))
    assert 0.85 * sum(parts) < whole < 1.05 * sum(parts)


def test_all_decimals_of_a_long_number_are_spoken(speech: Speech) -> None:
    short, long = (say(speech, "3." + "1415926535" * n).end_frame for n in (5, 10))
    assert 1.8 < long / short < 2.2


@pytest.mark.parametrize("letter", ["kata", "xkcd", "река", "कमल", "한글"])
def test_a_word_of_hundreds_of_letters_is_spoken_to_its_end(speech: Speech, letter: str) -> None:
    voice = {"река": "ru", "कमल": "hi", "한글": "ko"}.get(letter, "en-us")
    short, long = (say(speech, letter * n, voice).end_frame for n in (4, 40))
    assert 7 < long / short < 13


def test_a_document_of_one_endless_clause_is_spoken_to_its_end(speech: Speech) -> None:
    text = f"<speak>{NUMBERS} <prosody rate='fast'>{'und siebenundsiebzig ' * 100}</prosody> Schluss</speak>"
    marks = say(speech, text, "de").marks
    assert len(words(marks, text)) == 100 + 200 + 1
    assert words(marks, text)[-1] == "Schluss"


def test_a_job_whose_words_have_no_sound_fails_with_their_positions(speech: Speech) -> None:
    """Before the sentence is spoken: no half of it is sent."""
    text = "We read ᏣᎳᎩ and ꦗꦮ."
    with pytest.raises(TextLost, match=r"the voice en-us cannot speak 'ᏣᎳᎩ' at 8, 'ꦗꦮ.' at 16") as raised:
        say(speech, text)
    assert raised.value.spans == ((8, 11), (16, 19))


@pytest.mark.parametrize(
    ("unspoken", "again", "gone"),
    [
        ([(8, 11)], ["two"], []),
        ([(4, 7)], [], [(4, 7)]),
        ([(4, 7), (8, 11)], ["one", "two"], []),
        ([(0, 3), (8, 11)], [], [(0, 3), (8, 11)]),
    ],
)
def test_what_was_left_out_is_spoken_again_in_its_turn_or_not_at_all(
    unspoken: list[tuple[int, int]], again: list[str], gone: list[tuple[int, int]]
) -> None:
    part = Part("now one two", range(11), 0)
    found = espeak.Again.of(part, {"unspoken": unspoken})
    assert [each.text for each in found.parts] == again
    assert list(found.gone) == gone


def test_what_has_no_letter_and_no_name_is_listed_as_skipped(speech: Speech) -> None:
    text = "Hello 😀 world ⟴."
    done = say(speech, text).done
    assert done
    skipped = [text[start:end] for start, end in done.skipped]
    assert words(say(speech, text).marks, text)[0] == "Hello"
    assert done.completeness is Completeness.WORDS
    assert skipped == ["⟴."]


def test_a_replacement_lists_what_was_skipped_before_it(speech: Speech) -> None:
    text = "Skipped ⟴ here. " + "The lighthouse keeper counted the ships each night. " * 30
    job = EngineJob(id="j", input=text)
    whole = run(speech, job)
    rest = resumed(speech, job, whole.checkpoints[-1].frame, whole)
    assert whole.done
    assert rest.done
    assert rest.done.skipped == whole.done.skipped == ((8, 9),)


@pytest.mark.skipif(flite.find_flite() is None, reason="libflite is not installed (Debian: libflite1)")
def test_a_library_that_cannot_know_says_so(speech: Speech) -> None:
    done = say(speech, "Hello there.", "flite-slt").done
    assert done
    assert done.completeness is Completeness.NONE


#: A library with room for three letters of a word and eight of a clause.
def small_library(text: str) -> list[str]:
    return [" ".join(" ".join(word[:3]) for word in clause.split())[:15] for clause in text.split(",")]


@pytest.mark.parametrize(
    ("text", "events", "lost"),
    [
        ("ab cd ef", [0, 3, 6], []),
        ("ab cd ef", [0, 3], []),
        ("ab ⟴ ef", [0], []),
        ("ab cd ef gh ij", [0, 3, 6, 9], ["ij"]),
    ],
)
def test_a_token_was_spoken_if_an_event_begins_in_it_or_the_phonemes_need_it(
    text: str, events: list[int], lost: list[str]
) -> None:
    wanted = coverage.tokens(text, range(len(text)))
    found = coverage.unspoken(text, wanted, events, small_library)
    assert [text[start:end] for start, end in found] == lost


def test_a_word_is_too_long_if_its_end_makes_no_difference() -> None:
    text = "a short one, antidisestablishmentarianism too"
    (span,) = coverage.long_words(text, coverage.tokens(text, range(len(text))), small_library)
    assert text[slice(*span)] == "antidisestablishmentarianism"


def test_a_clause_is_too_long_in_phonemes_or_in_wide_letters() -> None:
    assert coverage.is_too_long("a " * 900, lambda text: [text])
    assert not coverage.is_too_long("a " * 550, lambda text: [text])
    assert coverage.is_too_long("權利 " * 61, lambda text: [text])
    assert not coverage.is_too_long("權利, " * 100, lambda text: text.split(","))


@pytest.mark.parametrize("num_chars", [100, 150, 200, 250, 300])
@pytest.mark.parametrize(
    ("voice", "unit"), [("cmn", "人人生而自由 "), ("ko", "모든 인간은 태어날 "), ("ja", "すべての ")]
)
def test_a_sentence_of_wide_letters_is_spoken_in_order(speech: Speech, voice: str, unit: str, num_chars: int) -> None:
    text = unit * (num_chars // len(unit))
    starts = [mark.start for mark in say(speech, text, voice).marks if mark.kind == "word"]
    assert starts == sorted(set(starts))
    wanted = coverage.tokens(text, range(len(text)))
    marked = [any(start <= at < end for at in starts) for start, end in wanted]
    assert marked[-1]
    assert sum(marked) > 0.6 * len(wanted), "`모든` and the word behind it have one mark"


def test_tokens_are_words_and_signs_but_not_punctuation() -> None:
    text = "Hi – (5€) 😀 … “so” -"
    found = [text[start:end] for start, end in coverage.tokens(text, range(len(text)))]
    assert found == ["Hi", "(5€)", "😀", "“so”"]
