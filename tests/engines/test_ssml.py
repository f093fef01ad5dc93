"""SSML: refused with the place of the fault, cut only where nothing is lost by it."""

import re

import pytest

from bus.ssml import is_document
from gpuworker.engine import Rejected
from gpuworker.engines.speech.ssml import parts


def known(voice: str) -> bool:
    return voice == "de"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<speak>a</speak>", True),
        ("\n <speak version='1.0'>a</speak>", True),
        ("a <speak>", False),
        ("< speak>", False),
        ("", False),
    ],
)
def test_ssml_is_known_by_its_beginning(text: str, answer: bool) -> None:
    assert is_document(text) is answer


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("<speak>a", "no element found at line 1, column 9"),
        ("<speak><p>a</s></speak>", "mismatched tag at line 1, column 14"),
        ("<speak>\n a & b</speak>", "not well-formed (invalid token) at line 2, column 5"),
        ("<speak>&nbsp;</speak>", "undefined entity at line 1, column 8"),
        ("<speak>a</speak> b", "junk after document element at line 1, column 18"),
        ("<speak><audio src='/etc/passwd'/></speak>", "<audio>, which is not spoken here, at line 1, column 8"),
        ("<speakers>a</speakers>", "<speakers>, which is not spoken here, at line 1, column 1"),
        ("<speak><speak>a</speak></speak>", "<speak> in the wrong place at line 1, column 8"),
        (
            "<speak><voice name='xx'>a</voice></speak>",
            "the voice 'xx', which no document can name, at line 1, column 8",
        ),
        ("<speak>" + "<p>" * 16 + "a" + "</p>" * 16 + "</speak>", "more than 16 deep at line 1, column 53"),
    ],
)
def test_a_document_is_refused_with_the_place(document: str, complaint: str) -> None:
    with pytest.raises(Rejected, match=re.escape(complaint)) as refusal:
        parts(document, known)
    assert refusal.value.path == "input"


@pytest.mark.parametrize(
    "document",
    [
        "<speak>a</speak>",
        "<speak/>",
        "<speak><p>a</p></speak>",
        "<speak>loose <s>a</s> <s>b</s></speak>",
        "<speak><prosody rate='fast'><s>a</s><s>b</s></prosody></speak>",
        "<speak><s>a</s><prosody rate='fast'>b</prosody><s>c</s></speak>",
        "<speak><voice name='de'>a &amp; b</voice></speak>",
    ],
)
def test_a_document_that_cannot_be_cut_stays_whole(document: str) -> None:
    assert [part.text for part in parts(f"  {document}\n", known)] == [document]


def test_sentences_and_paragraphs_are_spoken_one_by_one_each_in_the_same_document() -> None:
    document = (
        "<speak xml:lang='é>' ><s>One é.</s> <break time='1s'/><p a='>'>Two</p><!-- so --><s/><s>Three</s>\n</speak >"
    )
    assert [part.text for part in parts(document, known)] == [
        "<speak xml:lang='é>' ><s>One é.</s> <break time='1s'/></speak >",
        "<speak xml:lang='é>' ><p a='>'>Two</p><!-- so --></speak >",
        "<speak xml:lang='é>' ><s/></speak >",
        "<speak xml:lang='é>' ><s>Three</s>\n</speak >",
    ]
