"""Entries and positions: the last entry alone shows where a log stands."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import wire
from bus.errors import Malformed
from bus.jobs.entry import BLOCK, CHAIN, FRAME, KIND, KINDS, NEXT, STARTED, Chain, Entry, Position
from bus.transport.direct import Stored
from bus.transport.parser import Message

POSITIONS = st.builds(
    Position, st.integers(0, 2**40), st.integers(0, 2**50), st.integers(0, 2**32 - 1), st.integers(0, 2**60)
)


def message(headers: dict[str, str], data: bytes = b"x") -> Message:
    head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    return Message("t.live.a.b", "", head.encode(), data)


@given(POSITIONS)
def test_a_position_reads_back_from_its_header(position: Position) -> None:
    assert Position.parse(position.header()) == position


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 zz 0", "1 2 3 4 5", "a b c d", "1  2 3 4"])
def test_what_is_no_position_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match=NEXT):
        Position.parse(text)


@given(st.lists(st.binary(min_size=2, max_size=20), max_size=8))
def test_rule_08_the_position_after_blocks_is_their_number_their_frames_and_the_crc_of_all_pcm(
    blocks: list[bytes],
) -> None:
    position = Position(checkpoint_seq=7)
    for block in blocks:
        position = position.after_block(block, len(block) // 2)
    frames = sum(len(block) // 2 for block in blocks)
    assert position == Position(len(blocks), frames, zlib.crc32(b"".join(blocks)), 7)


def test_a_live_entry_has_its_sequence_and_the_one_before_it() -> None:
    entry = Entry.live(
        message({KIND: "block", BLOCK: "3", FRAME: "30", "Nats-Sequence": "9", "Nats-Last-Sequence": "7"})
    )
    assert (entry.kind, entry.seq, entry.last_seq, entry.block, entry.frame) == ("block", 9, 7, 3, 30)
    assert not entry.is_end
    assert entry.started is None


def test_a_stored_entry_does_not_claim_to_know_the_one_before_it() -> None:
    assert Entry.stored(Stored(message({KIND: "done"}), 4, "")).last_seq == -1


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_four_kinds_of_end_end_a_log(kind: str) -> None:
    assert Entry.live(message({KIND: kind})).is_end == (kind in {"done", "failed", "cancelled", "expired"})


def test_what_an_attempt_started_with_reads_back() -> None:
    started = wire.Started(media="m", worker="w", attempt=2, model="tone", version="v1", seam_frame=10, exact=False)
    assert Entry.live(message({STARTED: wire.encode(started).decode()})).started == started


@pytest.mark.parametrize("head", [{}, {KIND: ""}, {"antiphon-kind": "done"}])
def test_a_message_without_our_headers_is_an_entry_of_no_kind(head: dict[str, str]) -> None:
    entry = Entry.live(message(head))
    assert (entry.kind, entry.seq, entry.is_end) == (head.get(KIND, ""), 0, False)
    with pytest.raises(Malformed):
        assert entry.position


@given(st.lists(st.tuples(st.integers(1, 2**60), st.integers(1, 2**20)), max_size=20))
def test_a_chain_reads_back_from_its_header_and_names_its_latest_entries(added: list[tuple[int, int]]) -> None:
    chain = Chain()
    for seq, size in added:
        chain = chain.after(seq, size)
    assert Chain.parse(chain.header()) == chain
    assert (chain.entries, chain.num_bytes) == (len(added), sum(size for _, size in added))
    assert list(chain.seqs) == [seq for seq, _ in added][::-1][:16]


@pytest.mark.parametrize("text", ["", "1", "1 5", "1 5 7 8", "0 0 7", "x 5 7"])
def test_a_malformed_chain_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match=CHAIN):
        Chain.parse(text)


def test_a_last_entry_that_is_a_checkpoint_is_itself_the_latest() -> None:
    headers = {KIND: "checkpoint", NEXT: "1 2 00000000 3", "Nats-Sequence": "9"}
    assert Entry.live(message(headers)).position == Position(1, 2, 0, 9)
    growing = Entry.live(message({**headers, CHAIN: "1 4 5"}))
    assert growing.position == Position(1, 2, 0, 3, Chain(2, 5, (9, 5)))
