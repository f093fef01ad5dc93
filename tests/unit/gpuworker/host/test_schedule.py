"""Least slack first: thousands of streams in simulated time, without a clock, a thread or a device."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gpuworker.host.group import COMFORT_S, Pace
from gpuworker.host.schedule import STARVES_S, Schedule


def test_the_stream_that_runs_dry_first_is_served_first() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.ready("ahead", 10.0)
    schedule.ready("dry soon", 1.0)
    schedule.ready("in between", 5.0)
    assert [schedule.pop(0.0) for _ in range(4)] == ["dry soon", "in between", "ahead", None]


def test_a_new_stream_comes_before_all_that_are_comfortably_ahead_and_behind_those_about_to_fall_silent() -> None:
    now = 100.0
    comfortable, nearly_dry, new = Pace(now - 10), Pace(now - 10), Pace(now)
    comfortable.made(12.0, now - 10)
    nearly_dry.made(10.1, now - 10)
    order = sorted(
        [("comfortable", comfortable), ("nearly dry", nearly_dry), ("new", new)], key=lambda it: it[1].dry_at
    )
    assert [name for name, _ in order] == ["nearly dry", "new", "comfortable"]


def test_slack_is_audio_made_minus_audio_played() -> None:
    pace = Pace(5.0)
    pace.made(0.5, 7.0)
    pace.made(0.5, 7.1)
    assert abs(pace.slack_s(7.4) - 0.6) < 1e-9


def test_a_paused_stream_runs_only_after_its_time_and_keeps_its_rank() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.pause("late but urgent", until=2.0, dry_at=0.0)
    schedule.ready("there", 9.0)
    assert schedule.wait_s(1.0) == 0.0
    assert schedule.pop(1.0) == "there"
    assert schedule.pop(1.0) is None
    assert schedule.wait_s(1.5) == 0.5
    schedule.ready("there", 9.0)
    assert schedule.pop(2.0) == "late but urgent"


def test_a_dropped_stream_never_runs() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.ready("a", 1.0)
    schedule.pause("b", 1.0, 1.0)
    schedule.drop("a")
    schedule.drop("b")
    assert schedule.wait_s(5.0) is None
    assert schedule.pop(5.0) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["ready", "pause", "drop", "pop"]), st.floats(0, 100))))
def test_each_key_is_served_at_most_once_per_entry_and_in_order(steps: list[tuple[int, str, float]]) -> None:
    schedule: Schedule[int] = Schedule()
    expected: dict[int, float] = {}
    for key, step, at in steps:
        if step == "ready":
            schedule.ready(key, at)
            expected[key] = at
        elif step == "pause":
            schedule.pause(key, 0.0, at)
            expected[key] = at
        elif step == "drop":
            schedule.drop(key)
            expected.pop(key, None)
        else:
            got = schedule.pop(1.0)
            if expected:
                assert got is not None
                assert expected[got] == min(expected.values())
                del expected[got]
            else:
                assert got is None


BLOCK_S, COMPUTE_S = 0.1, 0.02


def simulate(policy: str, sentences: int, seed: int) -> tuple[float, float]:
    """(longest dry spell of a stream, latest first audio of a sentence), seconds, on one device at 80 % of its capacity.

    An audiobook of an hour began before the sentences, which are 1 s long and arrive three a second, jittered.
    """
    rng = random.Random(seed)
    arrivals = [0.0] + [1.0 + index / 3 + rng.uniform(0, 0.1) for index in range(sentences)]
    blocks = [36_000] + [10] * sentences
    paces, made = [Pace(at) for at in arrivals], [0] * len(arrivals)
    schedule: Schedule[int] = Schedule()
    now, index, dry_s, first_s = 0.0, 0, 0.0, 0.0
    while index < len(arrivals):
        while index < len(arrivals) and arrivals[index] <= now:
            schedule.ready(index, paces[index].dry_at if policy == "slack" else arrivals[index])
            index += 1
        stream = schedule.pop(now)
        assert stream is not None  # the audiobook is always runnable
        now += COMPUTE_S
        if made[stream]:
            dry_s = max(dry_s, now - paces[stream].dry_at)
        elif stream:
            first_s = max(first_s, now - arrivals[stream])
        paces[stream].made(BLOCK_S, now)
        made[stream] += 1
        if made[stream] < blocks[stream]:
            schedule.ready(stream, paces[stream].dry_at if policy == "slack" else arrivals[stream])
    return dry_s, first_s if max(made[1:]) else float("inf")


def test_sentences_beside_an_audiobook_start_within_three_blocks_and_no_stream_runs_dry() -> None:
    dry_s, first_s = simulate("slack", 3000, seed=1)
    assert dry_s <= 0.1
    assert first_s <= 3 * COMPUTE_S + 1e-9


def test_first_come_first_served_would_starve_every_sentence_behind_the_audiobook() -> None:
    assert simulate("fifo", 100, seed=1)[1] == float("inf")


def test_a_new_streams_rank_rises_while_it_waits() -> None:
    first, second = Pace(10.0), Pace(10.2)
    assert first.dry_at == 10.0 + COMFORT_S
    assert first.dry_at < second.dry_at


def test_a_stream_that_is_far_ahead_gets_a_block_every_few_seconds_while_others_are_always_behind() -> None:
    """On a device that makes half of what its streams play; the download has 1,000 s to spare."""
    num_slow, compute_s, num_steps = 4, 0.4, 3
    schedule: Schedule[int] = Schedule()
    paces = [Pace(0.0) for _ in range(num_slow + 1)]
    paces[0].made(1000.0, 0.0)
    made_at: list[list[float]] = [[0.0] for _ in paces]
    steps = [0] * len(paces)
    now = 0.0
    for stream in range(len(paces)):
        schedule.ready(stream, paces[stream].dry_at, STARVES_S)
    while now < 300.0:
        served = schedule.pop(now)
        assert served is not None
        now += compute_s / num_steps
        steps[served] += 1
        if steps[served] % num_steps == 0:  # the engine reports its progress between
            paces[served].made(compute_s / 2, now)
            made_at[served].append(now)
        schedule.ready(served, paces[served].dry_at, made_at[served][-1] + STARVES_S)
    gaps = [max(after - before for before, after in pairwise(each)) for each in made_at]
    assert max(gaps) < STARVES_S + 2 * compute_s
    assert len(made_at[0]) - 1 <= 300.0 / STARVES_S, "no more than that: the others are behind"
    counts = [len(each) for each in made_at[1:]]
    assert max(counts) - min(counts) <= 2


def test_of_streams_that_starve_the_one_that_waits_longest_is_first_and_a_paused_one_does_not_starve() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.ready("behind", -9.0, 20.0)
    schedule.ready("late", 100.0, 6.0)
    schedule.ready("later", 50.0, 7.0)
    schedule.pause("paused", 9.0, 100.0, 5.0)
    assert [schedule.pop(8.0) for _ in range(4)] == ["late", "later", "behind", None]
    schedule.ready("behind", -9.0, 20.0)
    assert [schedule.pop(9.0) for _ in range(3)] == ["paused", "behind", None]
