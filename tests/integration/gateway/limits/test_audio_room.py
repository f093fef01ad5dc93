"""Which jobs have room reserved: found out from the queue and the logs alone."""

import time

import pytest

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.submit import submit
from gateway.limits.audio_room import AudioRoom
from gateway.limits.gossip import Gossip
from gateway.limits.reserved_audio import Reservation
from tests.support.jobs import tone_job

LARGE = 10 << 20


@pytest.fixture
def room(bus: Bus) -> AudioRoom:
    return AudioRoom(bus, Gossip(bus.connection, bus.subjects, bus.clock.now))


def reserve_earlier(room: AudioRoom, name: tuple[str, str], owner: str, queue_seq: int = 0) -> None:
    """As if another gateway had reported it half a minute ago."""
    room.table.add(Reservation(name, LARGE, owner, time.monotonic() - 30, queue_seq))


async def recheck(room: AudioRoom) -> None:
    room._checked_s = float("-inf")
    await room._check_all()


@pytest.mark.parametrize("owner", ["", "killed"])
async def test_a_job_that_its_gateway_never_queued_holds_nothing(room: AudioRoom, owner: str) -> None:
    reserve_earlier(room, ("acme", "lost"), owner)
    await recheck(room)
    assert room.table.total_bytes == 0


async def test_a_job_whose_acceptance_was_cut_off_is_found_by_its_log(room: AudioRoom, bus: Bus) -> None:
    job = tone_job(max_bytes=LARGE)
    await submit(bus, job)
    reserve_earlier(room, ("public", job.id), "")
    await recheck(room)
    assert room.table.total_bytes == LARGE
    await bus.logs.end(bus.subjects.job_key("public", job.id), wire.End.CANCELLED, "test")
    await recheck(room)
    assert room.table.total_bytes == 0


async def test_large_jobs_in_the_queue_are_found_by_a_gateway_that_starts(room: AudioRoom, bus: Bus) -> None:
    large, small = tone_job(max_bytes=LARGE), tone_job(max_bytes=1000)
    for job in (large, small, tone_job()):
        await submit(bus, job)
    for body in (b"no job", b'{"max_bytes":1e99}', b'{"input":"x","max_bytes":20000000}'):
        await bus.js.publish(bus.subjects.job("tone", "v1", "standard", "public"), body)
    await room.scan()
    assert set(room.table.by_name) == {("public", large.id)}
    await room.scan()
    assert room.table.total_bytes == LARGE


async def test_small_jobs_and_known_ones_are_not_reserved(room: AudioRoom, bus: Bus) -> None:
    key = bus.subjects.job_key("acme", "a")
    assert await room.reserve(key, room.small_bytes) is False
    assert await room.reserve(key, LARGE) is True
    assert await room.reserve(key, LARGE) is False
    room.release(key)
    room.release(key)
    assert room.table.total_bytes == 0
