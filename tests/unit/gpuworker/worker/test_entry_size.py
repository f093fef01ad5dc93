"""How entries grow, and that waiting never lets a listener run dry."""

from hypothesis import given
from hypothesis import strategies as st

from gpuworker.worker.entry_size import GUARD_S, MAX_ENTRY_BYTES, EntrySize

RATE_HZ, FRAME_BYTES = 24_000, 2
SECOND = RATE_HZ * FRAME_BYTES


def test_the_first_block_leaves_at_once() -> None:
    assert EntrySize(RATE_HZ, FRAME_BYTES).hold_s(100, now=5.0) == 0.0


def test_nothing_waits_while_the_listener_is_nearly_dry() -> None:
    entry_size = EntrySize(RATE_HZ, FRAME_BYTES)
    entry_size.appended(SECOND // 10, now=0.0)
    assert entry_size.hold_s(10, now=0.0) == 0.0


def test_a_listener_who_is_ahead_lets_entries_grow_by_doubling_up_to_the_limit() -> None:
    entry_size = EntrySize(RATE_HZ, FRAME_BYTES)
    entry_size.appended(SECOND, now=0.0)
    assert entry_size.hold_s(SECOND // 2, now=0.1) > 0
    assert entry_size.hold_s(SECOND, now=0.1) == 0.0
    assert entry_size.hold_s(MAX_ENTRY_BYTES, now=0.1) == 0.0


@given(st.integers(1, 20 * SECOND), st.integers(1, 4 * SECOND), st.floats(0, 30))
def test_waiting_ends_before_the_listeners_last_moments(sent: int, pending: int, passed_s: float) -> None:
    entry_size = EntrySize(RATE_HZ, FRAME_BYTES)
    entry_size.appended(sent, now=0.0)
    slack_s = sent / SECOND - passed_s
    hold_s = entry_size.hold_s(pending, now=passed_s)
    assert hold_s >= 0
    assert hold_s == 0 or hold_s <= slack_s - GUARD_S + 1e-9


def test_a_stream_is_far_ahead_with_five_seconds_to_play_and_may_wait_until_two() -> None:
    entry_size = EntrySize(RATE_HZ, FRAME_BYTES)
    assert (entry_size.is_far_ahead(100.0), entry_size.spare_s(100.0)) == (False, 0.0)
    entry_size.appended(5 * SECOND, now=100.0)
    assert not entry_size.is_far_ahead(100.0)
    entry_size.appended(SECOND, now=100.5)
    assert entry_size.is_far_ahead(100.5)
    assert entry_size.spare_s(100.5) == 3.5
    assert not entry_size.is_far_ahead(101.0), "time passes, and nothing is appended"
    assert entry_size.spare_s(104.0) == 0.0
