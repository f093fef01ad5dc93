"""Music by ACE-Step's tasks: progress, the file, and tasks that cannot be cancelled."""

import time
from dataclasses import replace
from typing import Any

import pytest

from gpuworker.conformance.driving import checked
from gpuworker.engine import AttemptFailed, Pause, Progress
from tests.support.upstream_engine import JOB, loaded, server, spoken
from tests.support.upstream_servers import Running

__all__ = ["server"]


def test_music_is_a_task_with_progress_and_a_file(server: Running) -> None:
    engine = loaded(server, api="acestep", rate_hz=48_000, channels=2)
    job = replace(JOB, input="calm piano", params={"seconds": 2, "key": "Am", "metre": 3, "lyrics": "la"}, seed=9)
    events: list[Any] = []
    for _, event in engine.generate([checked(engine, job)]):
        events.append(event)
        if isinstance(event, Pause):
            time.sleep(event.seconds)
    assert next(event.phase for event in events if isinstance(event, Progress)) == "denoise"
    assert sum(len(event.pcm) for event in events if hasattr(event, "pcm")) == 96_000
    sent = server.state.requests[0]
    assert {name: sent[name] for name in ("prompt", "audio_duration", "key_scale", "time_signature", "seed")} == {
        "prompt": "calm piano",
        "audio_duration": 2,
        "key_scale": "Am",
        "time_signature": "3",
        "seed": 9,
    }
    assert (sent["batch_size"], sent["use_random_seed"], sent["audio_format"]) == (1, False, "wav")
    server.state.task_error = "out of memory"
    with pytest.raises(AttemptFailed, match="upstream qwen: the task failed: out of memory"):
        spoken(engine, job)
    engine.unload()


@pytest.mark.slow
def test_a_task_that_was_left_keeps_its_place_until_the_server_has_ended_it(server: Running) -> None:
    server.state.task_s = 0.6
    engine = loaded(server, api="acestep", rate_hz=48_000, channels=2, max_requests=1)
    job = checked(engine, replace(JOB, params={"seconds": 1}))
    events = engine.generate([job])
    while not isinstance(next(events)[1], Progress):
        pass
    events.close()
    assert spoken(engine, job)
    (_, first_at), (_, second_at) = server.state.tasks.values()
    assert second_at - first_at >= server.state.task_s
    engine.unload()
