"""Whether a request is a repeat of the one that made a job."""

import msgspec
import pytest

from bus import wire
from bus.jobs.birth import digest, is_repeat
from bus.jobs.ids import derived_from
from bus.marking import Marking
from bus.script import Turn

SENT = wire.Requested(model="speech")
BORN = wire.Job(input="Hello", id="j", model="speech", version="v1", voice="en-us", lane="standard", requested=SENT)
AFTER_AN_INSTALLATION = msgspec.structs.replace(
    BORN, model="piper", voice="en_US-joe-low", voice_digests={"en_US-joe-low": "58af"}
)


def test_a_request_that_is_resolved_otherwise_later_is_a_repeat() -> None:
    assert digest(AFTER_AN_INSTALLATION) != digest(BORN)
    assert is_repeat(AFTER_AN_INSTALLATION, BORN)


def test_a_request_for_that_which_was_resolved_is_a_repeat() -> None:
    explicit = wire.Requested(model="speech", version="v1", voice="en-us")
    assert digest(msgspec.structs.replace(BORN, requested=explicit)) == digest(BORN)
    assert is_repeat(msgspec.structs.replace(BORN, requested=explicit), BORN)


def test_a_voice_by_its_name_is_the_same_request_after_it_was_replaced() -> None:
    first = msgspec.structs.replace(AFTER_AN_INSTALLATION, requested=None)
    assert is_repeat(msgspec.structs.replace(first, voice_digests={"en_US-joe-low": "77ff"}), first)


@pytest.mark.parametrize(
    "change",
    [
        {"input": "Bye"},
        {"seed": 1},
        {"lane": "batch"},
        {"requested": wire.Requested(model="speech", voice="x")},
        {"requested": wire.Requested(model="speech", language="de")},
    ],
)
def test_another_request_is_none(change: dict[str, object]) -> None:
    assert not is_repeat(msgspec.structs.replace(AFTER_AN_INSTALLATION, **change), BORN)


def test_the_turns_of_a_script_are_compared_as_they_were_sent() -> None:
    def script(*voices: str) -> list[Turn]:
        return [Turn(text="Hello", voice=voice) for voice in voices]

    sent = wire.Requested(model="speech", turns=["", "de"])
    born = wire.Job(id="j", model="speech", script=script("en-us", "de"), requested=sent)
    later = msgspec.structs.replace(born, model="piper", script=script("en_US-joe-low", "de_DE-eva-low"))
    assert is_repeat(later, born)
    assert not is_repeat(msgspec.structs.replace(later, requested=wire.Requested(model="speech")), born)


@pytest.mark.parametrize("marking", ["none", "inaudible", "signed"])
def test_the_digest_changes_with_the_marking(marking: Marking) -> None:
    """And so does the id of a shared run; a repeat of a request with an id stays one."""
    other = msgspec.structs.replace(BORN, marking=marking)
    assert digest(other) != digest(BORN)
    assert derived_from(other) != derived_from(BORN)
    assert is_repeat(other, BORN)


def test_a_job_without_a_marking_is_tagged_and_has_the_digest_that_it_had_before() -> None:
    assert wire.decode(wire.Job, b'{"input": "Hello"}').marking == "tag"
    assert b"marking" not in wire.encode(BORN)
