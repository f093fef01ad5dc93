"""Which texts are SSML, where a document ends, and how long a break is."""

import time

import pytest

from bus import ssml
from bus.sentences import sentences


@pytest.mark.parametrize(
    "text",
    [
        "<speak>Hi</speak>",
        "  <speak version='1.1'>Hi</speak>",
        '<?xml version="1.0"?><speak>Hello.</speak>',
        "\ufeff<?xml version='1.0'?>\n<!-- a > comment -->\n<speak/>",
        "<!DOCTYPE speak><speak\n>Hi</speak>",
    ],
)
def test_a_document_is_known_by_its_root(text: str) -> None:
    assert ssml.is_document(text)


@pytest.mark.parametrize(
    "text", ["<speaker> said hi.", "<speaker1> Hello.", "Hi <speak>", "<?xml version='1.0'?><svg/>", "<speak", "", "<>"]
)
def test_anything_else_is_plain_text(text: str) -> None:
    assert not ssml.is_document(text)


@pytest.mark.parametrize("unit", ["<??>", "<!---->", "<!--", "<speak", " ", "<break '", "<!DOCTYPE"])
def test_no_text_takes_long_to_judge(unit: str) -> None:
    text = unit * (100_000 // len(unit)) + "x"
    started = time.thread_time()
    ssml.is_document(text)
    ssml.check_breaks(text)
    ssml.may_become_document(text, 0)
    assert time.thread_time() - started < 1


def test_a_document_is_one_sentence_and_text_behind_it_another() -> None:
    document = "<speak>Hello. <break/> You. Two. </speak> "
    assert list(sentences(f"{document}And then. More.")) == [document, "And then. ", "More."]
    assert list(sentences("<speaker> said hi. Then left.")) == ["<speaker> said hi. ", "Then left."]


@pytest.mark.parametrize(
    ("time", "milliseconds"),
    [
        ("1.5s", 1500),
        ("500ms", 500),
        ("1s", 1000),
        (" 2s ", 2000),
        (".5s", 500),
        ("+1s", 1000),
        ("0ms", 0),
        ("10s", 10_000),
    ],
)
def test_a_time_is_seconds_or_milliseconds(time: str, milliseconds: int) -> None:
    assert ssml.duration_ms(time) == milliseconds


@pytest.mark.parametrize("time", ["", "soon", "1", "-1s", "1 s", "1e3ms", "nans", "1.5.s", "١s"])
def test_a_time_that_is_none_is_refused_by_its_name(time: str) -> None:
    with pytest.raises(ssml.BadBreak, match=r"is no time such as 1\.5s or 500ms") as refused:
        ssml.duration_ms(time)
    assert repr(time) in str(refused.value)


def test_a_time_over_the_limit_is_refused_with_the_limit() -> None:
    with pytest.raises(ssml.BadBreak, match="'11s' is over the limit of 10 s"):
        ssml.duration_ms("11s")
    with pytest.raises(ssml.BadBreak, match=r"'3\.1s' is over the limit of 3 s"):
        ssml.check_breaks('Hi <break time="3.1s" /> you', 3)
