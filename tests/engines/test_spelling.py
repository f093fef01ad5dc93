"""How a text is spelled for the library, and that marks keep the positions of the original."""

import pytest

from bus.sentences import sentences
from gpuworker.conformance.driving import Output, run
from gpuworker.engine import EngineJob, Rejected
from gpuworker.engines.speech.engine import RATE_HZ, Speech
from gpuworker.engines.text.markdown import without_marks
from gpuworker.engines.text.parts import Part
from gpuworker.engines.text.spelling import spell


def spelled(text: str, language: str = "en-us") -> Part:
    return spell(Part(text, range(len(text)), 0), language)


def said(speech: Speech, text: str, voice: str = "en-us", /, **params: object) -> Output:
    return run(speech, EngineJob(id="j", input=text, voice=voice, params=params))


def seconds(speech: Speech, text: str, voice: str = "en-us", /, **params: object) -> float:
    return said(speech, text, voice, **params).end_frame / RATE_HZ


def words(output: Output, text: str) -> list[str]:
    return [text[mark.start : mark.start + mark.length] for mark in output.marks if mark.kind == "word"]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("𝐇𝐞𝐥𝐥𝐨 ＨＩ ①", "en-us", "Hello HI 1"),
        ("x² and ½ a…", "en-us", "x² and ½ a…"),
        ("cafe\u0301 ｶﾞ", "en-us", "café ガ"),
        ("one\ntwo\u00a0three\x0bfour\x85five", "en-us", "one two three four five"),
        ("Il fait -5 degrés, -$3 et 10-20", "fr-fr", "Il fait moins 5 degrés, moins $3 et 10-20"),
        ("−5 (-7) COVID-19 3-4", "pt-br", "menos 5 (menos 7) COVID-19 3-4"),
        ("-5", "en-us", "−5"),
        ("5 Mio. Euro", "de", "5 Mio Euro"),
        ("Am 3. Oktober 1990", "de", "Am 3. oktober 1990"),
        ("at 5 p.m. Monday", "en-us", "at 5 p.m Monday"),
        ("в г. Москва", "ru", "в г Москва"),
        ("😀😀👨\u200d👩\u200d👧🇩🇪", "en-us", "😀 😀 👨\u200d👩\u200d👧 🇩🇪"),
        ("1234567890123456", "en-us", "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6"),
        ("3.14159265358", "en-us", "3.141592653 5 8"),
        ("x" * 45, "en-us", "x" * 40 + " " + "x" * 5),
        ("1,234,567,890,123,456 and 100 200 300", "en-us", "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 and 100 200 300"),
        ("999999, 1000000 та 1.000.000", "uk", "999999, 1 0 0 0 0 0 0 та 1 0 0 0 0 0 0"),
        ("10 000 000 in 7", "sl", "1 0 0 0 0 0 0 0 in 7"),
        ("45 7 3.25", "lb", "4 5 7 3.2 5"),
        ("25 3-мӗш", "cv", "иккӗ пиллӗк виҫҫӗ -мӗш"),
        ("6 16 2.7", "si", "හය 16 2. හත"),
        ("ᏣᎳᎩ ꮳꮃꭹ 2", "chr-us-qaaa-x-west", "tsalagi tsalagi tali"),
        (
            "<speak>Am 3. Oktober -5 &amp;-6 <sub alias='-7'>-7</sub></speak>",
            "de",
            "<speak>Am 3. oktober −5 &amp;−6 <sub alias='-7'>-7</sub></speak>",
        ),
        ("<speak>ＡＢ ＜ <break time='1.5s'/></speak>", "en-us", '<speak>AB &lt; <break time="1500ms"/></speak>'),
    ],
)
def test_it_is_spelled_as(text: str, language: str, expected: str) -> None:
    part = spelled(text, language)
    assert part.text == expected
    assert part.body == range(len(expected))


def test_each_character_keeps_the_place_of_the_one_it_stands_for() -> None:
    text = "ﬁn -5 cafe\u0301!"
    part = spelled(text, "fr")
    assert part.text == "fin moins 5 café!"
    assert part.span(0, 3) == (0, 2)
    assert text[slice(*part.span(4, 9))] == "-"
    assert text[slice(*part.span(10, 11))] == "5"
    assert text[slice(*part.span(12, 16))] == "cafe\u0301"


def test_marks_are_positions_of_the_original(speech: Speech) -> None:
    text = "𝐇𝐞𝐥𝐥𝐨 ＷＯＲＬＤ, **bold** ﬁnd."
    assert words(said(speech, text, text="markdown"), text) == ["𝐇𝐞𝐥𝐥𝐨", "ＷＯＲＬＤ", "bold", "ﬁnd"]


@pytest.mark.parametrize("voice", ["fr-fr", "es", "pt-br", "cmn", "it", "de", "ru", "en-us"])
def test_a_minus_is_spoken(speech: Speech, voice: str) -> None:
    assert seconds(speech, "x -5 x", voice) > seconds(speech, "x 5 x", voice) + 0.1
    assert seconds(speech, "x \u22125 x", voice) > seconds(speech, "x 5 x", voice) + 0.1


@pytest.mark.parametrize(
    ("voice", "text"),
    [
        ("de", "Wir haben das\nHaus gekauft."),
        ("ko", "나는 오늘 집에\n갔습니다."),
        ("ar", "ذهب الولد إلى\nالمدرسة."),
        ("de", "Das kostet 5 Mio. Euro."),
        ("ru", "Это г. Москва"),
        ("en-us", "at 5 p.m. Monday"),
    ],
)
def test_there_is_no_pause_within_a_sentence(speech: Speech, voice: str, text: str) -> None:
    plain = text.replace("\n", " ").replace(". ", " ").replace("p.m ", "pm ")
    assert seconds(speech, text, voice) == pytest.approx(seconds(speech, plain, voice), abs=0.05)


def test_an_ordinal_is_one(speech: Speech) -> None:
    assert len(spelled("am 3. Oktober", "de").text) == len("am 3. Oktober")
    assert seconds(speech, "am 3. Oktober", "de") == pytest.approx(seconds(speech, "am dritte Oktober", "de"), abs=0.1)


@pytest.mark.parametrize("blank", ["\f", "\x0b", "\x85", "\u2028", "\u2029", "\u3000", "\u2003"])
def test_white_space_of_any_kind_is_a_blank(speech: Speech, blank: str) -> None:
    text = f"page one{blank}page two"
    assert words(said(speech, text), text) == ["page", "one", "page", "two"]


@pytest.mark.parametrize("bad", ["\0", "\x1b", "\x7f", "\x9f"])
def test_control_characters_stay_refused(speech: Speech, bad: str) -> None:
    with pytest.raises(Rejected, match="control character"):
        said(speech, f"a{bad}b")


def test_a_form_feed_is_a_paragraph() -> None:
    assert list(sentences("page one\fpage two\u2029page three")) == ["page one\f", "page two\u2029", "page three"]


@pytest.mark.parametrize("wait", ["1.5s", "1500ms"])
def test_a_break_of_a_document_is_as_long_as_it_says(speech: Speech, wait: str) -> None:
    without, with_break = (
        seconds(speech, f"<speak>Hi{tag}you</speak>") for tag in (" <break time='0ms'/>", f"<break time='{wait}'/>")
    )
    assert with_break - without == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(
    ("time", "reason"), [("soon", "'soon' is no time"), ("11s", "'11s' is over the limit of 10 s")]
)
def test_a_wrong_break_is_refused_by_its_name(speech: Speech, time: str, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        said(speech, f"<speak>Hi <break time='{time}'/></speak>")
    with pytest.raises(Rejected, match=reason):
        said(speech, f'Hi <break time="{time}" />', breaks=True)


def test_a_break_in_plain_text_is_a_pause_if_the_job_says_so(speech: Speech) -> None:
    text = 'Hello there. <break time="2.0s" /> World.'
    output = said(speech, text, breaks=True)
    assert words(output, text) == ["Hello", "there", "World"]
    assert output.end_frame / RATE_HZ - seconds(speech, "Hello there. World.") == pytest.approx(2, abs=0.4)
    only = seconds(speech, '<break time="1s"/>Hi', breaks=True) - seconds(speech, "Hi")
    assert only == pytest.approx(1, abs=0.01)


def test_a_declaration_and_a_comment_before_the_root_are_not_spoken(speech: Speech) -> None:
    bare = said(speech, "<speak>Hello.</speak>")
    full = said(speech, "<?xml version='1.0' encoding='utf-16'?>\n<!-- so -->\n<speak>Hello.</speak>")
    assert full.end_frame == bare.end_frame
    assert full.marks[-1].start == bare.marks[-1].start + len("<?xml version='1.0' encoding='utf-16'?>\n<!-- so -->\n")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("**Hello** [site](http://x.y)", ["Hello site"]),
        ("# Title\nText *is* _good_, snake_case 2*3*4.", ["Title", "Text is good, snake_case 2*3*4."]),
        ("- one\n- [x] two\n> three", ["one", "two\nthree"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |\nend", ["a ,  b", "1 ,  2", "end"]),
        ("```py\ncode `x`\n```\n~~no~~ ***both*** \\*\n---\n![alt](u)", ["code x", "no both *", "alt"]),
    ],
)
def test_marks_of_markdown_are_not_read(text: str, read: list[str]) -> None:
    part = without_marks(Part(text, range(len(text)), 0))
    assert [sentence.strip() for sentence in sentences(part.text)] == read


@pytest.mark.parametrize("text", ["**Hello** you", "# Title", "[a](b)"])
def test_plain_text_is_read_as_it_is(speech: Speech, text: str) -> None:
    assert seconds(speech, text) > seconds(speech, text, text="markdown") + 0.2
