"""The engine `upstream` against small servers that answer well and badly."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gpuworker.conformance.driving import Events, checked, next_block, run
from gpuworker.conformance.for_pytest import EngineConformance
from gpuworker.engine import AttemptFailed, Engine, EngineJob, Pause, Progress, Rejected
from gpuworker.engines.upstream.errors import UpstreamFailed
from tests.support.clips import tone_clip
from tests.support.upstream_engine import JOB, TEXT, loaded, server, spoken
from tests.support.upstream_servers import Behaviour, Running, running, speech_pcm

__all__ = ["server"]


class TestUpstream(EngineConformance):
    name = "upstream"
    first = EngineJob(id="first", input=TEXT)
    second = EngineJob(id="second", input="Nine ten.", params={"speed": 1.5})
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls) -> Iterator[None]:
        with running() as server:
            cls.options = {"url": server.url, "repeats": True, "voices": ["a", "b"]}
            yield


@pytest.mark.parametrize("form", [{"response_format": "wav"}, {"response_format": "pcm"}, {"stream_format": "sse"}])
def test_audio_is_that_of_the_server_and_the_request_has_the_jobs_fields(server: Running, form: dict[str, Any]) -> None:
    options = {"voices": ["anna"], "seed_field": "seed", "fields": {"task_type": "CustomVoice"}, "key": "sk-1", **form}
    engine = loaded(server, params={"instructions": {"type": "string"}}, **options)
    job = replace(JOB, params={"speed": 2, "instructions": "whisper"}, seed=7)
    assert spoken(engine, job) == speech_pcm(TEXT)
    (request,) = server.state.requests
    assert request == {
        "model": "qwen",
        "input": TEXT,
        "voice": "anna",
        "speed": 2,
        "instructions": "whisper",
        "seed": 7,
        "task_type": "CustomVoice",
        "response_format": "wav",
        **form,
    }
    assert server.state.headers[0]["authorization"] == "Bearer sk-1"
    engine.unload()


def test_a_voice_that_is_a_recording_is_sent_with_the_job(server: Running, tmp_path: Path) -> None:
    (tmp_path / "anna.wav").write_bytes(b"RIFF")
    clip = {"file": str(tmp_path / "anna.wav"), "text": "Hello"}
    engine = loaded(server, clips={"anna": clip}, clip_fields={"task_type": "Base"})
    spoken(engine, replace(JOB, voice="anna"))
    sent = server.state.requests[0]
    assert sent["ref_audio"].startswith("data:audio/")
    assert sent["ref_audio"].endswith(";base64,UklGRg==")
    assert (sent["ref_text"], sent["task_type"]) == ("Hello", "Base")
    assert "voice" not in sent
    engine.unload()


@pytest.fixture
def cloned(tmp_path: Path) -> EngineJob:
    (tmp_path / "clip").write_bytes(tone_clip())
    (tmp_path / "text").write_text("La la.")
    return replace(JOB, inputs={"reference": str(tmp_path / "clip"), "reference_text": str(tmp_path / "text")})


def test_a_callers_clip_is_sent_with_each_request(server: Running, cloned: EngineJob) -> None:
    engine = loaded(server, clones="ref_audio", voices=["a"], clip_fields={"task_type": "Base"})
    assert set(engine.capabilities().inputs) == {"reference", "reference_text"}
    assert spoken(engine, cloned) == speech_pcm(TEXT)
    sent = server.state.requests[0]
    assert base64.b64decode(sent["ref_audio"].removeprefix("data:audio/wav;base64,")) == tone_clip()
    assert (sent["ref_text"], sent["task_type"], "voice" in sent) == ("La la.", "Base", False)
    engine.unload()


def test_a_callers_clip_is_uploaded_once_and_then_named(server: Running, cloned: EngineJob) -> None:
    engine = loaded(server, clones="voices", voices=["a"])
    spoken(engine, cloned)
    spoken(engine, cloned)
    ((name, parts),) = server.state.voices.items()
    assert (parts["audio_sample"], parts["ref_text"]) == (tone_clip(), b"La la.")
    assert [each["voice"] for each in server.state.requests] == [name, name]

    server.state.voices.clear()  # as after a restart
    with pytest.raises(AttemptFailed, match="no such voice"):
        spoken(engine, cloned)
    assert spoken(engine, replace(cloned, attempt=2)) == speech_pcm(TEXT)

    second = loaded(server, clones="voices", voices=["a"])  # the server has the voice from another worker
    assert spoken(second, cloned) == speech_pcm(TEXT)
    second.unload()
    engine.unload()


@pytest.mark.parametrize("data", [b"", b"RIFF", tone_clip(rate_hz=8_000)])
def test_a_clip_that_is_none_is_refused(server: Running, cloned: EngineJob, data: bytes) -> None:
    Path(cloned.inputs["reference"]).write_bytes(data)
    engine = loaded(server, clones="ref_audio")
    with pytest.raises(Rejected, match=r"inputs\.reference"):
        spoken(engine, cloned)
    engine.unload()


NO_KEY = json.dumps({"error": {"message": "bad key", "type": "auth", "param": None, "code": None}}).encode()
NO_VOICE = json.dumps({"error": {"message": "no voice 'x'", "type": "BadRequestError", "param": "voice"}}).encode()


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (Behaviour(500, b"Internal Server Error"), "answered 500: Internal Server Error"),
        (Behaviour(body=b"<html>", media="text/html"), "the answer is text/html, which is no audio"),
        (Behaviour(body=b"<html>", media="audio/wav"), "begins with b'<html>', which is no WAV"),
        (Behaviour(num_zeros=0), "has no sound: 0 frames"),
        (Behaviour(num_zeros=48_000), "has no sound: 24000 frames, all of them 0"),
        (Behaviour(share=0.1), "0.32 s of audio are too short for the text, which takes 0.53 s at least"),
    ],
)
def test_a_wrong_answer_fails_the_first_attempt_and_then_the_job(
    server: Running, behaviour: Behaviour, message: str
) -> None:
    server.state.behaviours.extend([behaviour, behaviour])
    engine = loaded(server)
    with pytest.raises(AttemptFailed) as failure:
        spoken(engine)
    assert message in str(failure.value)
    assert failure.value.is_fault
    with pytest.raises(UpstreamFailed) as final:
        spoken(engine, replace(JOB, attempt=2))
    assert f"upstream qwen{'' if message.startswith('answered') else ':'} " in str(final.value)
    assert spoken(engine) == speech_pcm(TEXT)
    engine.unload()


@pytest.mark.parametrize("behaviour", [Behaviour(share=0.5, is_cut=True), Behaviour(is_cut=True, has_length=True)])
def test_a_body_that_is_cut_short_fails_the_attempt_and_never_the_job(server: Running, behaviour: Behaviour) -> None:
    server.state.behaviours.append(behaviour)
    engine = loaded(server)
    with pytest.raises(AttemptFailed, match=r"cut short|too early") as failure:
        spoken(engine, replace(JOB, attempt=4))
    assert not failure.value.is_fault
    engine.unload()


def test_what_the_server_refuses_is_refused_with_its_words_and_our_path(server: Running) -> None:
    server.state.behaviours.append(Behaviour(400, NO_VOICE))
    engine = loaded(server)
    with pytest.raises(Rejected, match="refused by the model's server with 400: no voice 'x'") as refusal:
        spoken(engine)
    assert refusal.value.path == "voice"
    server.state.behaviours.append(Behaviour(401, NO_KEY))
    with pytest.raises(UpstreamFailed, match="upstream qwen answered 401: bad key"):
        spoken(engine)
    server.state.behaviours.append(Behaviour(302, headers={"Location": "http://169.254.169.254/"}))
    with pytest.raises(UpstreamFailed, match="redirects are not followed"):
        spoken(engine)
    engine.unload()


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(server: Running) -> None:
    server.state.behaviours += [Behaviour(429, b"full", {"Retry-After": "1"}), Behaviour(503, b"loading")]
    engine = loaded(server)
    pauses = [event.seconds for _, event in engine.generate([checked(engine, JOB)]) if isinstance(event, Pause)]
    assert max(pauses) > 0.9
    assert len(server.state.requests) == 3
    server.state.behaviours.extend([Behaviour(429, b"full", {"Retry-After": "60"})])
    engine = loaded(server, busy_s=5)
    with pytest.raises(AttemptFailed, match="upstream qwen answers 429 full, after 5 s") as failure:
        spoken(engine)
    assert not failure.value.is_fault
    engine.unload()


def test_a_job_that_waits_for_long_shows_it_so_that_it_does_not_count_as_stalled(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuworker.engines.upstream.server._SHOW_S", 0.1)
    engine = loaded(server)

    def phases() -> set[str]:
        events = []
        for _, event in engine.generate([checked(engine, JOB)]):
            events.append(event)
            if isinstance(event, Pause):
                time.sleep(event.seconds)
        return {event.phase for event in events if isinstance(event, Progress)}

    server.state.behaviours.append(Behaviour(503, b"loading"))
    assert "waiting for a busy server" in phases()
    server.state.behaviours.append(Behaviour(delay_s=0.3))
    assert "waiting for the first of the answer" in phases()


def test_the_first_sound_may_take_longer_than_a_silence_behind_it_and_both_have_their_limits(server: Running) -> None:
    server.state.behaviours.append(Behaviour(delay_s=0.5))
    assert spoken(loaded(server, silence_s=0.2)) == speech_pcm(TEXT)
    server.state.behaviours.append(Behaviour(delay_s=0.5))
    with pytest.raises(AttemptFailed, match=r"waiting for the first of the answer took longer than 0\.2 s"):
        spoken(loaded(server, first_byte_s=0.2))
    server.state.pace_s = 0.5
    with pytest.raises(AttemptFailed, match=r"waiting for more of the answer took longer than 0\.2 s"):
        spoken(loaded(server, silence_s=0.2))


def test_a_rate_that_is_not_the_options_fails_the_job_at_once_and_names_both(server: Running) -> None:
    for form in ("wav", "pcm"):
        server.state.behaviours.append(Behaviour(rate_hz=44_100))
        engine = loaded(server, response_format=form)
        with pytest.raises(UpstreamFailed, match="sends 44100 Hz, 1 channels; its options say rate_hz 24000"):
            spoken(engine)
        engine.unload()


def begun(engine: Engine) -> Events:
    """A job whose first audio has arrived."""
    events = engine.generate([checked(engine, JOB)])
    next_block(events)
    return events


def settled_at(count: Callable[[], int]) -> int:
    """A count once it has been the same for 0.2 s."""
    found, since = count(), time.monotonic()
    while time.monotonic() - since < 0.2:
        time.sleep(0.01)
        if count() != found:
            found, since = count(), time.monotonic()
    return found


def test_an_endless_answer_is_not_read_ahead_and_ends_with_its_job(server: Running) -> None:
    server.state.behaviours.append(Behaviour(num_zeros=200 << 20))
    engine = loaded(server)
    events = begun(engine)
    # All but our buffer of 512 KiB is in those of the kernel.
    assert settled_at(lambda: server.state.num_sent) < 64 << 20
    events.close()
    assert settled_at(lambda: server.state.num_running) == 0
    assert server.state.num_left == 1
    engine.unload()


def test_closing_a_job_whose_server_is_silent_closes_the_connection_at_once(server: Running) -> None:
    server.state.pace_s = 5.0
    engine = loaded(server)
    events = begun(engine)
    assert [each.name for each in threading.enumerate()].count("upstream") == 1
    events.close()
    assert settled_at(lambda: [each.name for each in threading.enumerate()].count("upstream")) == 0
    # The server goes on with a request that nobody waits for, and the next job is served beside it.
    server.state.pace_s = 0.0
    assert spoken(engine) == speech_pcm(TEXT)
    engine.unload()


def test_a_job_beyond_max_requests_waits_for_another_one_to_end(server: Running) -> None:
    engine = loaded(server, max_requests=1)
    first, second = (engine.generate([checked(engine, JOB)]) for _ in range(2))
    next(first)
    assert isinstance(next(second)[1], Pause)
    assert len(server.state.requests) <= 1
    first.close()
    assert len([event for _, event in second if not isinstance(event, Pause)]) > 3
    engine.unload()


def test_readiness_follows_the_servers_health(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuworker.engines.upstream.health._EVERY_S", 0.05)
    engine: Any = loaded(server)
    server.state.health = (503, b'{"loading":{"progress":0.5}}')
    until = time.monotonic() + 20
    while not engine.unready():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert engine.unready() == 'upstream qwen: GET /health answers 503 {"loading":{"progress":0.5}}'
    engine.unload()


def test_equal_runs_differ_where_the_options_do_not_say_that_the_server_repeats(server: Running) -> None:
    card = loaded(server).capabilities()
    assert (card.resume, card.determinism) == ("restart", "none")
    assert loaded(server, repeats=True).capabilities().resume == "replay"
    assert run(loaded(server), replace(JOB, start_frame=100, attempt=2)).blocks[0].first_frame == 0
