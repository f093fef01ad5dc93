"""Names of voices as clients write them."""

import hashlib

import pytest

from bus.voices import files_digest, hint, listed, nearest, spellings

IDS = ["cmn", "de", "en-gb", "en-us", "fr-be", "fr-fr", "nb", "pt", "pt-br", "yue", "flite-slt", "Nova"]


@pytest.mark.parametrize(
    ("voice", "expected"),
    [
        ("en-us", "en-us"),
        ("EN-US", "en-us"),
        ("en_US", "en-us"),
        ("pt-BR", "pt-br"),
        ("pt-PT", "pt"),
        ("fr-FR", "fr-fr"),
        ("fr-CA", "fr"),
        ("fr", "fr"),
        ("de-DE", "de"),
        ("de_AT+F3", "de+F3"),
        ("en-us+klatt", "en-us+klatt"),
        ("zh", "cmn"),
        ("zh-Hans-CN", "cmn"),
        ("zh-HK", "yue"),
        ("no", "nb"),
        ("NOVA", "Nova"),
        ("FLITE-SLT", "flite-slt"),
    ],
)
def test_the_nearest_voice_is_found(voice: str, expected: str) -> None:
    assert nearest(voice, IDS) == expected


@pytest.mark.parametrize(
    "voice", ["xx", "klingon", "x-us", "de+", "", "-", "flite-xyz", "de us", "en-uss", "no-such-voice"]
)
def test_a_voice_like_none_of_them_is_not_guessed(voice: str) -> None:
    found = nearest(voice, IDS)
    assert found is None or found.startswith("de+")


def test_a_tag_loses_its_last_part_first() -> None:
    assert list(spellings("sr_Latn-RS+f3")) == ["sr-latn-rs+f3", "sr-latn+f3", "sr+f3"]


def test_an_unknown_voice_is_answered_with_three_near_ones_and_where_the_list_is() -> None:
    for voice in ("xx", "z" * 1000):
        text = hint(voice, IDS, "speech")
        assert 1 <= text.count("'") / 2 <= 3
        assert text.endswith("`GET /v1/voices?model=speech` lists all")


def test_the_digest_of_a_voice_is_that_of_the_lines_of_sha256sum() -> None:
    lines = b"11aa  a.onnx\n22bb  a.onnx.json\n"
    assert files_digest({"a.onnx.json": "22bb", "a.onnx": "11aa"}) == hashlib.sha256(lines).hexdigest()


PIPER = ["de_DE-thorsten-medium", "en_US-joe-medium", "en_US-joe-low", "en_US-two-low", "en_US-two-low+bob"]


@pytest.mark.parametrize(
    ("voice", "expected"),
    [
        ("en_US-joe-medium", "en_US-joe-medium"),
        ("EN-us-JOE-medium", "en_US-joe-medium"),
        ("en_US-joe", "en_US-joe-medium"),
        ("en_US", "en_US-joe-medium"),
        ("en", "en_US-joe-medium"),
        ("de-AT", "de_DE-thorsten-medium"),
        ("en_us-two-low+BOB", "en_US-two-low+bob"),
        ("en_us-two-low+ann", "en_US-two-low+ann"),
        ("en_US+f3", None),
        ("en_US-john", None),
        ("fr", None),
        ("alloy", None),
    ],
)
def test_a_name_stands_for_one_that_is_listed(voice: str, expected: str | None) -> None:
    assert listed(voice, PIPER) == expected
