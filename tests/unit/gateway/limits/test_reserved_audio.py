"""The table of reserved audio: sums by tenant, and the same sums at every gateway."""

import random

import pytest

from gateway.limits.gossip import EndedJob, ReservedJob
from gateway.limits.reserved_audio import Reservation, ReservedAudio

MIB = 1 << 20


def row(job: str, num_bytes: int, tenant: str = "acme", owner: str = "me", since_s: float = 0.0) -> Reservation:
    return Reservation((tenant, job), num_bytes, owner, since_s)


def test_a_tenant_at_its_share_leaves_room_for_another() -> None:
    table = ReservedAudio("me", 100 * MIB)
    for n in range(200):
        if table.refusal("acme", MIB) is None:
            table.add(row(f"j{n}", MIB))
    assert table.total_bytes == 88 * MIB  # eight ninths
    refusal = table.refusal("acme", MIB)
    assert refusal is not None
    assert (refusal.is_own, refusal.held) == (True, 88 * MIB)
    assert table.refusal("other", 12 * MIB) is None
    refusal = table.refusal("other", 13 * MIB)
    assert refusal is not None
    assert not refusal.is_own


def test_a_job_is_reserved_once_and_freed_once() -> None:
    table = ReservedAudio("me", MIB)
    assert table.add(row("a", 1000))
    assert not table.add(row("a", 1000))
    assert table.total_bytes == 1000
    assert table.remove(("acme", "a"))
    assert not table.remove(("acme", "a"))
    assert table.total_bytes == 0


def test_changes_are_reported_once_and_the_full_state_whenever_it_is_requested() -> None:
    table = ReservedAudio("me", MIB)
    table.add(row("a", 1000))
    table.add(row("b", 1000, owner="peer"))
    assert table.take_changes(full=False) == ([ReservedJob("acme", "a", 0, 1000)], [])
    assert table.take_changes(full=False) == ([], [])
    table.set_queued(("acme", "a"), 7)
    assert table.take_changes(full=False) == ([ReservedJob("acme", "a", 7, 1000)], [])
    assert table.take_changes(full=True) == ([ReservedJob("acme", "a", 7, 1000)], [])
    table.remove(("acme", "a"))
    table.remove(("acme", "b"))  # another gateway's: it finds the end itself
    assert table.take_changes(full=False) == ([], [EndedJob("acme", "a")])


def test_a_job_that_two_gateways_accept_is_counted_once() -> None:
    table = ReservedAudio("me", MIB)
    table.add(row("a", 1000))
    table.merge("peer", [ReservedJob("acme", "a", 7, 1000)], [], 0.0)
    assert (table.total_bytes, table.by_name["acme", "a"].owner) == (1000, "me")
    table.merge("peer", [], [EndedJob("acme", "a")], 0.0)
    assert table.total_bytes == 1000


def test_the_jobs_of_a_gateway_that_left_are_kept_and_checked_here() -> None:
    table = ReservedAudio("me", MIB)
    table.merge("peer", [ReservedJob("acme", "a", 7, 1000)], [], 0.0)
    assert table.to_check(1.0, 10, of_others=False) == []
    assert len(table.to_check(1.0, 10, of_others=True)) == 1
    table.orphan("peer")
    assert [each.name for each in table.to_check(1.0, 10, of_others=False)] == [("acme", "a")]
    assert table.total_bytes == 1000


def test_a_job_found_in_the_queue_is_its_gateways_once_that_reports_it() -> None:
    table = ReservedAudio("me", MIB)
    table.add(row("a", 1000, owner=""))
    table.merge("peer", [ReservedJob("acme", "a", 7, 1000)], [], 0.0)
    table.merge("peer", [], [EndedJob("acme", "a")], 0.0)
    assert table.total_bytes == 0


@pytest.mark.parametrize("seed", range(20))
def test_gateways_that_exchange_all_changes_have_equal_sums(seed: int) -> None:
    rng = random.Random(seed)
    tables = {name: ReservedAudio(name, 100 * MIB) for name in "abc"}
    jobs: dict[str, str] = {}
    for n in range(300):
        owner = rng.choice("abc")
        if rng.random() < 0.6 or not jobs:
            tables[owner].add(row(f"j{n}", rng.randrange(1, MIB), f"t{rng.randrange(4)}", owner))
            jobs[f"j{n}"] = owner
        else:
            job = rng.choice([*jobs])
            name = next(each for each in tables[jobs[job]].by_name if each[1] == job)
            tables[jobs.pop(job)].remove(name)
        for sender, table in tables.items():
            reserved, ended = table.take_changes(full=rng.random() < 0.1)
            for receiver in tables.keys() - {sender}:
                tables[receiver].merge(sender, reserved, ended, 0.0)
    sums = [(table.total_bytes, set(table.by_name)) for table in tables.values()]
    assert sums[0] == sums[1] == sums[2]
    assert set(jobs) == {job for _, job in tables["a"].by_name}
