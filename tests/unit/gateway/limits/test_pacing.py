"""Who is slowed down while the event loop is late, and who is not."""

import asyncio

import pytest

from gateway.limits.pacing import Pacing

LATE_S = 0.02


def driven(counts: dict[str, float], late_s: float, periods: int, occupied_part: float = 0.8) -> Pacing:
    """A pacing after so many periods in which these callers sent requests, and the loop was late and occupied."""
    pacing = Pacing()
    for _ in range(periods):
        for owner, count in counts.items():
            pacing.counts[owner] = pacing.counts.get(owner, 0.0) + count
        pacing.look(late_s, occupied_part)
    return pacing


def test_a_caller_with_most_requests_waits_while_the_loop_is_late() -> None:
    pacing = driven({"loud": 10, "quiet": 1}, LATE_S, 40)
    assert pacing.is_busy
    assert pacing.wait_s("loud") > 0.1
    assert pacing.wait_s("quiet") == 0
    assert pacing.wait_s("new") == 0


def test_the_wait_grows_while_the_loop_stays_late_and_ends_when_it_is_in_time() -> None:
    pacing = driven({"loud": 10, "quiet": 1}, LATE_S, 10)
    early = pacing.wait_s("loud")
    for _ in range(30):
        pacing.counts["loud"] += 10
        pacing.counts["quiet"] += 1
        pacing.look(LATE_S, 0.8)
    assert pacing.wait_s("loud") > 2 * early
    for _ in range(200):
        pacing.counts["loud"] += 10
        pacing.counts["quiet"] += 1
        pacing.look(0.0, 0.1)
    assert not pacing.is_busy


def test_a_caller_alone_never_waits() -> None:
    pacing = driven({"loud": 10}, LATE_S, 100)
    assert not pacing.is_busy
    assert pacing.wait_s("loud") == 0


def test_callers_with_equal_parts_do_not_wait() -> None:
    pacing = driven({"a": 5, "b": 5}, LATE_S, 100)
    assert (pacing.wait_s("a"), pacing.wait_s("b")) == (0, 0)


def test_nothing_waits_while_the_loop_is_in_time() -> None:
    assert not driven({"loud": 10, "quiet": 1}, 0.0002, 100).is_busy


def test_nothing_waits_while_the_loop_is_late_for_want_of_a_cpu() -> None:
    """Another process has it: requests that wait would not make the loop earlier."""
    assert not driven({"loud": 10, "quiet": 1}, LATE_S, 100, occupied_part=0.1).is_busy


def test_a_caller_with_few_requests_never_waits_although_they_are_more_than_an_equal_part() -> None:
    """The others' requests may be the expensive ones."""
    pacing = driven({"modest": 1, "expensive": 0.5}, LATE_S, 100)
    assert pacing.is_busy
    assert pacing.wait_s("modest") == 0


def test_callers_that_have_left_are_forgotten() -> None:
    pacing = driven({f"caller {number}": 1 for number in range(1000)}, 0.0, 1)
    for _ in range(100):
        pacing.look(0.0, 0.1)
    assert pacing.counts == {}


async def test_a_request_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pacing, waits, sleep = driven({"loud": 10, "quiet": 1}, LATE_S, 40), [], asyncio.sleep

    async def measured(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", measured)
    await pacing.begin("quiet")
    assert waits == []
    await pacing.begin("loud")
    assert waits == [pacing.wait_s("loud")]
