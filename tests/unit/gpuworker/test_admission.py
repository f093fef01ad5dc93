"""What holds for the jobs of every engine is checked before an engine sees them."""

from dataclasses import replace

import pytest

from bus.errors import Invalid
from gpuworker.admission import admit
from gpuworker.engine import Capabilities, EngineJob, Rejected, Voice
from gpuworker.engines.tone import Tone


class Small(Tone):
    """Takes ten characters, and checks nothing itself."""

    voices: tuple[Voice, ...] = ()

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), max_input_chars=10, voices=self.voices)

    def validate(self, job: EngineJob) -> EngineJob:
        return job


class Singing(Small):
    voices = (Voice("anna", "Anna", "en"),)


@pytest.mark.parametrize(
    ("job", "path", "message"),
    [
        (EngineJob(id="j", input=" \n"), "input", "input: is blank"),
        (EngineJob(id="j", input="a" * 11), "input", "input: has 11 characters, the limit is 10"),
        (EngineJob(id="j", input="a", voice="bob"), "voice", "voice: tone has no voices, not 'bob'"),
    ],
)
def test_a_job_that_no_engine_takes_is_refused_by_field_limit_and_value(
    job: EngineJob, path: str, message: str
) -> None:
    with pytest.raises(Rejected) as refusal:
        admit(Small(), job)
    assert (refusal.value.path, str(refusal.value)) == (path, message)


def test_params_that_break_the_schema_are_refused() -> None:
    with pytest.raises(Invalid, match=r"params\.seconds: .* greater than the maximum") as refusal:
        admit(Small(), EngineJob(id="j", input="a", params={"seconds": 1e9}))
    assert refusal.value.path == "params.seconds"


def test_the_defaults_of_the_schema_are_filled_in_beside_what_is_given() -> None:
    params = admit(Small(), EngineJob(id="j", input="a", params={"seconds": 3})).params
    assert (params["seconds"], params["block_ms"]) == (3, 100)


def test_which_voice_a_name_stands_for_is_left_to_an_engine_that_has_voices() -> None:
    assert admit(Singing(), EngineJob(id="j", input="a", voice="BOB")).voice == "BOB"


@pytest.mark.parametrize("voice", ["anna", "anna+loud"])
def test_a_voice_with_other_files_than_the_job_was_accepted_with_is_refused(voice: str) -> None:
    class Sung(Small):
        voices = (Voice("anna", "Anna", "en", sha256="58"),)

    job = EngineJob(id="j", input="a", voice=voice, voice_digests={voice: "58", "bob": "77"})
    assert admit(Sung(), job).voice == voice
    with pytest.raises(Rejected, match=r"has SHA-256 58 on this worker, .* was accepted with '77'") as refusal:
        admit(Sung(), replace(job, voice_digests={voice: "77"}))
    assert refusal.value.path == "voice"


def test_a_voice_that_the_engine_has_no_longer_is_refused() -> None:
    with pytest.raises(Rejected, match="'bob' has SHA-256 unknown on this worker"):
        admit(Singing(), EngineJob(id="j", input="a", voice="bob", voice_digests={"bob": "77"}))
