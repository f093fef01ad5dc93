"""Which model and voice answer a request for `speech` while other models are of its family: ADR 17."""

from typing import Any

import msgspec
import pytest

from bus import wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard, Voice
from bus.script import Turn
from gateway.jobs.resolution import is_written_in, resolve, voice_of_language

_SPEED = {"type": "number", "maximum": 4}


def card(name: str, voices: dict[str, str], family: str = "", **params: Any) -> ModelCard:
    """`voices`: language by id; the first one is the default."""
    return ModelCard(
        name=name,
        version="v1",
        kind="speech",
        rate_hz=22_050,
        channels=1,
        resume="checkpoint",
        determinism="same_build",
        param_schema={"type": "object", "additionalProperties": False, "properties": {"speed": _SPEED, **params}},
        max_input_chars=100,
        voices=[Voice(id=each, name=each, language=language) for each, language in voices.items()],
        default_voice=next(iter(voices)),
        family=family,
        scripts=name != "kokoro",
    )


SPEECH = card("speech", {"en-us": "en-us", "de": "de"}, pitch={"type": "integer"})
PIPER = card(
    "piper",
    {"de_DE-eva-low": "de-DE", "en_GB-ann-low": "en-GB", "en_US-joe-low": "en-US", "en_US-two-low": "en-US"},
    family="speech",
    variation=_SPEED,
)
KOKORO = card("kokoro", {"af_bella": "en-US"}, family="speech")
LONG = "x" * 101


@pytest.mark.parametrize(
    ("fields", "model", "voice"),
    [
        ({}, "piper", "en_US-joe-low"),
        ({"voice": "en_US-two"}, "piper", "en_US-two-low"),
        ({"voice": "de-AT"}, "piper", "de_DE-eva-low"),
        ({"params": {"speed": 2}}, "piper", "en_US-joe-low"),
        ({"params": {"variation": 0}}, "piper", "en_US-joe-low"),
        ({"params": {"pitch": 60}}, "speech", ""),
        ({"params": {"speed": 5}}, "speech", ""),
        ({"voice": "en-us"}, "speech", "en-us"),
        ({"voice": "en-us+f3"}, "speech", "en-us+f3"),
        ({"voice": "alloy"}, "speech", "alloy"),
        ({"version": "v1"}, "speech", ""),
        ({"input": "<speak>Hello</speak>"}, "speech", ""),
        ({"input": LONG}, "speech", ""),
        ({"inputs": {"clip": "58af"}}, "speech", ""),
        ({"input": "Привет"}, "speech", ""),
        ({"input": "Café, naïve ﬁ 12 — ok…"}, "piper", "en_US-joe-low"),
        ({"input": "Привет", "voice": "en_US-joe"}, "piper", "en_US-joe-low"),
    ],
)
def test_a_request_for_speech_gets_a_voice_of_its_family_if_that_can_answer_it(
    fields: dict[str, Any], model: str, voice: str
) -> None:
    found, id_ = resolve(wire.Job(**{"input": "Hello", "model": "speech", **fields}), SPEECH, [PIPER])
    assert (found.name, id_) == (model, voice)


@pytest.mark.parametrize(
    ("fields", "model", "voice"),
    [
        ({}, "speech", ""),
        ({"voice": "en-us"}, "speech", "en-us"),
        ({"voice": "en_US-two"}, "piper", "en_US-two-low"),
        ({"voice": "nobody"}, "speech", "nobody"),
    ],
)
def test_a_version_of_a_route_is_the_models_own_unless_a_member_alone_has_the_voice(
    fields: dict[str, Any], model: str, voice: str
) -> None:
    routed = wire.Job(input="Hello", model="speech", version="v1", requested=wire.Requested(model="speech"), **fields)
    found, id_ = resolve(routed, SPEECH, [PIPER])
    assert (found.name, id_) == (model, voice)
    sent = wire.Requested(model="speech", version="v1")
    assert resolve(msgspec.structs.replace(routed, requested=sent), SPEECH, [PIPER])[0] is SPEECH


def test_the_first_member_that_has_the_voice_answers() -> None:
    members = [KOKORO, PIPER]
    assert resolve(wire.Job(input="Hello"), SPEECH, members) == (KOKORO, "af_bella")
    assert resolve(wire.Job(input="Hello", voice="en_US"), SPEECH, members) == (PIPER, "en_US-joe-low")


@pytest.mark.parametrize(
    ("voices", "model", "voice"),
    [
        (["", ""], "piper", "en_US-joe-low"),
        (["en_GB", "de-AT"], "piper", "en_US-joe-low"),
        (["en_GB", "en-us"], "speech", ""),
        (["en_GB", "alloy"], "speech", ""),
    ],
)
def test_a_script_gets_a_member_that_has_all_its_voices(voices: list[str], model: str, voice: str) -> None:
    turns = [Turn(text="Hello.", voice=each) for each in voices]
    found, id_ = resolve(wire.Job(script=turns), SPEECH, [KOKORO, PIPER])
    assert (found.name, id_) == (model, voice)


@pytest.mark.parametrize("text", ["<speak>Hello</speak>", "Привет", LONG])
def test_a_script_with_a_turn_that_only_speech_can_speak_stays_there(text: str) -> None:
    assert resolve(wire.Job(script=[Turn(text="Hello."), Turn(text=text)]), SPEECH, [PIPER]) == (SPEECH, "")


@pytest.mark.parametrize(("speakers", "model"), [(["a", "b", "a"], "piper"), (["a", "b", "c", "d"], "speech")])
def test_a_script_stays_where_each_speaker_has_a_voice(speakers: list[str], model: str) -> None:
    """Three voices of `piper` speak English."""
    script = [Turn(text="Hello.", speaker=each) for each in speakers]
    assert resolve(wire.Job(script=script), SPEECH, [PIPER])[0].name == model


@pytest.mark.parametrize(
    ("language", "text", "model", "voice"),
    [
        ("de", "Guten Tag", "piper", "de_DE-eva-low"),
        ("en-gb", "Good day", "piper", "en_GB-ann-low"),
        ("en", "Good day", "piper", "en_GB-ann-low"),
        ("fr", "Bonjour", "speech", ""),
        ("de", "Привет", "speech", ""),
    ],
)
def test_a_language_that_the_caller_named_chooses_the_voice(language: str, text: str, model: str, voice: str) -> None:
    found, id_ = resolve(wire.Job(input=text), SPEECH, [PIPER], language)
    assert (found.name, id_) == (model, voice)


@pytest.mark.parametrize(("language", "voice"), [("de", "de"), ("en", ""), ("en-us", ""), ("fr", ""), ("d", "")])
def test_a_model_speaks_a_language_by_its_default_voice_if_that_can(language: str, voice: str) -> None:
    assert voice_of_language(SPEECH, language) == voice


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"input": "<speak>Hi</speak>"}, "input", "input: is SSML, which 'en_US-joe-low' of piper does not read"),
        ({"params": {"pitch": 60}}, "params.pitch", "params.pitch: unknown"),
        ({"params": {"speed": 5}}, "params.speed", "params.speed: 5 is greater than the maximum of 4"),
    ],
)
def test_a_voice_of_a_member_alone_says_why_it_cannot_speak_a_job(
    fields: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(Invalid, match=message) as refusal:
        resolve(wire.Job(**{"input": "Hi", "voice": "en_us-JOE-low", **fields}), SPEECH, [PIPER])
    assert refusal.value.path == path


def test_without_a_member_at_work_speech_answers() -> None:
    assert resolve(wire.Job(input="Hello"), SPEECH, []) == (SPEECH, "")


def test_a_region_of_its_language_is_better_than_no_voice_of_it() -> None:
    british = card("piper", {"de_DE-eva-low": "de-DE", "en_GB-ann-low": "en-GB"}, family="speech")
    assert resolve(wire.Job(input="Hello"), SPEECH, [british]) == (british, "en_GB-ann-low")
    german = card("piper", {"de_DE-eva-low": "de-DE"}, family="speech")
    assert resolve(wire.Job(input="Hello"), SPEECH, [german]) == (SPEECH, "")


def test_where_no_worker_offers_speech_itself_its_family_answers_all() -> None:
    """The card that is known in its place is a member's."""
    assert resolve(wire.Job(input="Hello"), PIPER, [PIPER]) == (PIPER, "de_DE-eva-low")
    assert resolve(wire.Job(input="Hello", voice="en_US"), PIPER, [PIPER]) == (PIPER, "en_US-joe-low")
    assert resolve(wire.Job(input="Hello"), PIPER, []) == (PIPER, "")


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Hello, 12!", "en-us", True),
        ("Ｈｅｌｌｏ", "en", True),
        ("Ελλάδα", "en", False),
        ("Ελλάδα", "el", True),
        ("Hello", "el", False),
        ("Привіт", "uk-ua", True),
        ("日本語です", "ja", True),
        ("これは日本語です", "cmn", False),
        ("12 + 7 = 19", "ru", True),
        ("The value of π is 3.14", "en", True),
        ("He said Привет", "en", True),
        ("ok: Привет", "en", False),
        ("Hello. " + 10_000 * "x" + 20_000 * "Ж", "en", True),
    ],
)
def test_most_letters_belong_to_the_script_of_a_language(text: str, language: str, expected: bool) -> None:
    assert is_written_in(text, language) is expected
