"""Jobs that share a forward: gathered by key for a few milliseconds, halved when the device has no room."""

from typing import Any

from gpuworker.engine import EngineJob
from gpuworker.engines.tone import Tone
from gpuworker.host.batcher import GATHER_S, Batcher
from gpuworker.host.group import Group, Member

TONE = Tone()


def tone_job(**params: Any) -> EngineJob:
    return TONE.validate(EngineJob(id="j", input="x", params={"seconds": 0.3, "max_batch": 3, **params}))


def handles(group: Group | None) -> list[int]:
    return [] if group is None else [member.handle for member in group.members]


def batcher() -> Batcher:
    return Batcher(lambda message, urgent: None)


def add(gathering: Batcher, handle: int, engine: Tone, job: EngineJob, now: float) -> Group | None:
    key = engine.batch_key(job)
    assert key is not None
    return gathering.add(engine, key, Member(handle, job, now), now)


def test_jobs_with_equal_keys_wait_for_each_other_and_others_do_not_join() -> None:
    gathering = batcher()
    for handle, block_ms in ((1, 100), (2, 50), (3, 100)):
        assert add(gathering, handle, TONE, tone_job(block_ms=block_ms), 0.0) is None
    assert gathering.form_due(GATHER_S / 2) == []
    assert [handles(group) for group in gathering.form_due(GATHER_S)] == [[1, 3], [2]]
    assert not gathering.is_gathering


def test_jobs_of_two_engines_never_share_a_group() -> None:
    gathering = batcher()
    add(gathering, 1, TONE, tone_job(), 0.0)
    add(gathering, 2, Tone(), tone_job(), 0.0)
    assert [handles(group) for group in gathering.form_due(GATHER_S)] == [[1], [2]]


def test_a_full_batch_does_not_wait() -> None:
    gathering = batcher()
    capacity = TONE.capabilities().max_batch
    for handle in range(1, capacity):
        assert add(gathering, handle, TONE, tone_job(), 0.0) is None
    assert handles(add(gathering, capacity, TONE, tone_job(), 0.0)) == list(range(1, capacity + 1))
    assert not gathering.is_gathering


def test_a_job_cancelled_while_it_waits_is_left_out() -> None:
    gathering = batcher()
    add(gathering, 1, TONE, tone_job(), 0.0)
    add(gathering, 2, TONE, tone_job(), 0.0)
    gathering.cancel(1)
    gathering.cancel(99)
    assert [handles(group) for group in gathering.form_due(GATHER_S)] == [[2]]
    add(gathering, 3, TONE, tone_job(), 1.0)
    gathering.cancel(3)
    assert gathering.form_due(2.0) == []


def test_a_group_is_halved_at_the_frames_its_jobs_have_reached_and_one_job_cannot_be() -> None:
    gathering = batcher()
    for handle in (1, 2, 3, 4):
        add(gathering, handle, TONE, tone_job(seconds=1.0, max_batch=4), 0.0)
    (group,) = gathering.form_due(GATHER_S)
    for _ in range(4):
        group.step(0.0)
    group.cancel(group.members[3])
    first, second = gathering.halve(group)
    assert (handles(first), handles(second)) == ([1, 2], [3])
    assert [member.job.start_frame for member in first.members] == [2_400, 2_400]
    assert gathering.halve(second) == []
