"""When each word of a speech begins: at its place in the text as it came, and at its place in the sound."""

import re
from contextlib import closing

import numpy as np
import pytest

from gpuworker.conformance.driving import Output, run
from gpuworker.engine import EngineJob, Mark
from gpuworker.engines.speech import espeak, flite
from gpuworker.engines.speech.engine import RATE_HZ, Speech
from gpuworker.engines.speech.espeak_words import Words
from gpuworker.engines.speech.speaker import Speaker, Word
from tests.engines.texts import STORY


def spoken_output(speech: Speech, text: str, voice: str = "") -> Output:
    return run(speech, EngineJob(id="j", input=text, voice=voice))


def words(marks: list[Mark], text: str, kind: str = "word") -> list[str]:
    return [text[mark.start : mark.start + mark.length] for mark in marks if mark.kind == kind]


@pytest.mark.parametrize(
    ("voice", "text", "spoken"),
    [
        ("en-us", "Hello brave new world.", "Hello|brave|new|world"),
        ("en-us", "  Don't\tyou\n\nthink, Dr. Smith?  ", "Don't|you|think|Dr|Smith"),
        ("en-us", "The 3rd well-known U.S.A. case (see 1984).", "The|3rd|well-known|U.S.A|case|see|1984"),
        ("en-us", "Cats, dogs etc. eat 20% – or $5.20.", "Cats|dogs|etc|eat|20|%|or|$|5.20"),
        ("en-us", "I love 😀 cats 👨\u200d👩\u200d👧 indeed.", "I|love|😀|cats|👨\u200d👩\u200d👧|indeed"),
        ("en-us", "A cafe\u0301 na\u00efve \U0001d400 done.", "A|cafe\u0301|na\u00efve|\U0001d400|done"),
        ("de", "Schöne Grüße aus Köln, über 25 Öfen.", "Schöne|Grüße|aus|Köln|über|25|Öfen"),
        ("de", "Das kostet 1.234,50 Euro.", "Das|kostet|1.234,50|Euro"),
        ("ru", "Все счастливые семьи похожи.", "Все|счастливые|семьи|похожи"),
        ("ar", "ذهب الولد إلى المدرسة.", "ذهب|الولد|إلى|المدرسة"),
        ("hi", "मैं स्कूल जा रहा हूँ।", "मैं|स्कूल|जा|रहा|हूँ"),
        ("cmn", "今天天气很好。我们去公园吧。", "今|天|天|气|很|我|们|去|公|园|吧"),
    ],
)
def test_a_word_is_marked_where_it_stands_in_the_text(speech: Speech, voice: str, text: str, spoken: str) -> None:
    assert words(spoken_output(speech, text, voice).marks, text) == spoken.split("|")


def test_no_word_drifts_in_a_long_text_that_is_cut_into_many_pieces(speech: Speech) -> None:
    endless = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich, " * 20
    text = f"{'Ein kurzer Satz 😀 hier. ' * 30}\n\n{endless}und Schluss."
    marks = spoken_output(speech, text, "de").marks
    spoken = [word for word in words(marks, text) if word != "😀"]
    written = re.findall(r"\w+", text)
    assert set(spoken) <= set(written), "each is a whole word"
    assert len(spoken) > 0.95 * len(written)
    assert spoken[-2:] == ["und", "Schluss"]
    assert sum(mark.kind == "sentence" for mark in marks) > 34


def test_most_english_words_have_a_mark_of_their_own(speech: Speech) -> None:
    """Not all: `of the` is spoken in one breath, and reported as one word."""
    text = STORY * 3
    spoken, written = words(spoken_output(speech, text).marks, text), re.findall(r"\w+", text)
    assert 0.85 * len(written) < len(spoken) <= len(written)
    assert set(spoken) <= set(written)


def test_sentences_are_marked_as_they_were_cut(speech: Speech) -> None:
    text = "  One is short. Two  \n\nis not. 三。 "
    marks = spoken_output(speech, text).marks
    assert words(marks, text, "sentence") == ["One is short.", "Two", "is not.", "三。"]
    first_words = {mark.frame for mark in marks if mark.kind == "word"}
    assert sum(mark.frame in first_words for mark in marks if mark.kind == "sentence") >= 3


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("  <speak>Größe <emphasis>big</emphasis> wörld &amp; moon.</speak>", "Größe|big|wörld|&amp;|moon"),
        (
            "\n<speak xml:lang='en' ><s>Ä 😀 two.</s> <break time='1s'/><p>Three four.</p></speak>",
            "Ä|😀|two|Three|four",
        ),
        ("The word <speak> is no tag here.", "The|word|speak|is|no|tag|here"),
    ],
)
def test_positions_in_ssml_count_its_tags_and_leading_space(speech: Speech, text: str, spoken: str) -> None:
    found = words(spoken_output(speech, text).marks, text)
    assert [word for word in found if word not in "<>"] == spoken.split("|")


def test_a_mark_is_where_the_sound_is(speech: Speech) -> None:
    """A word behind a second's silence begins when the silence is over, not before and not long after."""
    text = "<speak>Before <break time='1000ms'/> behind.</speak>"
    found = spoken_output(speech, text)
    before, behind = (mark for mark in found.marks if mark.kind == "word")
    loud = np.flatnonzero(np.abs(found.pcm[:, 0]) > 0.01)
    gaps = np.diff(loud)
    assert gaps.max() > 0.9 * RATE_HZ, "that is the break"
    end, begin = loud[gaps.argmax()], loud[gaps.argmax() + 1]
    assert before.frame < loud[0] + 0.05 * RATE_HZ
    assert end < behind.frame < begin + 0.02 * RATE_HZ
    assert begin - behind.frame < 0.1 * RATE_HZ


@pytest.mark.skipif(flite.find_flite() is None, reason="libflite is not installed (Debian: libflite1)")
def test_flite_marks_sentences_and_no_words_because_it_reports_none(speech: Speech) -> None:
    text = "Hello there. How are you?"
    found = spoken_output(speech, text, "flite-slt")
    assert [mark.kind for mark in found.marks] == ["sentence", "sentence"]
    assert words(found.marks, text, "sentence") == ["Hello there.", "How are you?"]


@pytest.mark.parametrize(
    ("text", "events", "spoken"),
    [
        # A phrase's second word, a number's, and one that is nowhere.
        ("so much 1984", [(0, 0, 2), (1, 1, 2), (2, 8, 2), (3, 9, 2), (4, 9, 2), (5, 99, 2)], [(0, 0, 2), (2, 8, 4)]),
        # "grinning face": the second word is reported on the space, and is not the cats'.
        ("a 😀 cats", [(0, 0, 1), (1, 2, 1), (2, 3, 1), (3, 4, 4)], [(0, 0, 1), (1, 2, 1), (3, 4, 4)]),
        # Behind an abbreviation the next word is reported on the space before it.
        ("etc. is", [(0, 0, 3), (1, 4, 1)], [(0, 0, 3), (1, 5, 2)]),
        ("end - ", [(0, 0, 3), (1, 4, 1)], [(0, 0, 3)]),
    ],
)
def test_each_word_is_located_once_and_in_order(
    text: str, events: list[tuple[int, int, int]], spoken: list[tuple[int, int, int]]
) -> None:
    assert list(Words(text, is_document=False).locate(Word(*event) for event in events)) == spoken


def test_the_helper_sends_each_word_once_within_the_audio_that_it_begins_in(speaker: Speaker) -> None:
    at, starts = 0, []
    voice = espeak.make_request("gmw/en-US", {"speed": 1, "pitch": 50, "range": 50, "volume": 100}, 0)
    with closing(speaker.speak({**voice, "text": "Hello brave new world.", "ssml": False})) as pieces:
        for pcm, words in pieces:
            end = at + len(pcm) // 2
            assert all(at <= word.frame < end for word in words)
            starts += [word.start for word in words]
            edges = {at, end - 1}
            assert not any(word.frame in edges for word in words if word.start), "to the frame, not to the piece"
            at = end
    assert starts == [0, 6, 12, 16]
