"""The ledger of `antiphon chaos` finds every kind of damage."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from bus import wire
from ops.chaos import samples
from ops.chaos.ledger import CheckedEntry, ClientRecord, Damage, judge_client, judge_log, surplus
from ops.chaos.requests import Request
from tests.support.tone import tone_pcm

REFERENCE = samples.tone()
FRAMES = 24_000
PCM = tone_pcm(1.0)
REQUEST = Request(1, "listen", "tone", "tone", {"seconds": 1.0}, seconds=1.0)


def log_of(num_blocks: int = 4, end: str = "done") -> list[CheckedEntry]:
    """The log of a second of tone, as it should be."""
    entries, crc32, each = [], 0, FRAMES // num_blocks
    for block in range(num_blocks):
        crc32 = zlib.crc32(PCM[block * each * 2 : (block + 1) * each * 2], crc32)
        entries.append(CheckedEntry(block + 1, "block", block, block * each, each, crc32, crc32))
    done = wire.Done(blocks=num_blocks, frames=FRAMES, seconds=1.0, crc32=f"{crc32:08x}") if end == "done" else None
    return [*entries, CheckedEntry(num_blocks + 1, end, stored_crc32=crc32, crc32=crc32, done=done)]


def kinds(damages: list[Damage]) -> set[str]:
    return {damage.what for damage in damages}


def test_a_whole_log_is_good() -> None:
    assert judge_log("j", log_of(), REQUEST, REFERENCE) == []


def test_a_log_without_an_end_is_a_lost_job() -> None:
    assert kinds(judge_log("j", log_of()[:-1], REQUEST, REFERENCE)) == {"lost"}
    assert kinds(judge_log("j", [], REQUEST, REFERENCE)) == {"lost"}


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
def test_an_end_that_the_request_does_not_explain_is_a_lost_job(end: str) -> None:
    assert kinds(judge_log("j", log_of(end=end), REQUEST, REFERENCE)) == {"lost"}


def test_an_end_that_the_request_explains_is_good() -> None:
    left = replace(REQUEST, behaviour="hang_up", valid_ends=frozenset({"cancelled", "done"}))
    assert judge_log("j", log_of(end="cancelled"), left, REFERENCE) == []


DAMAGES: dict[str, tuple[str, Callable[[list[CheckedEntry]], list[CheckedEntry]]]] = {
    "a block is missing": ("lost", lambda log: [log[0], *log[2:]]),
    "frames are missing between two blocks": ("lost", lambda log: [*log[:2], replace(log[2], frame=12_001), *log[3:]]),
    "a block stands twice": ("doubled", lambda log: [*log[:2], log[1], *log[2:]]),
    "a block overlaps the one before": ("doubled", lambda log: [log[0], replace(log[1], frame=5_999), *log[2:]]),
    "a block number is used twice": ("doubled", lambda log: [log[0], replace(log[1], block=0), *log[2:]]),
    "two ends": ("doubled", lambda log: [*log, replace(log[-1], seq=9)]),
    "a block after the end": ("doubled", lambda log: [*log, replace(log[0], block=4, frame=FRAMES, seq=9)]),
    "a wrong sample": ("wrong", lambda log: [log[0], replace(log[1], wrong_at=12_005), *log[2:]]),
    "a checksum that is not the audio's": ("wrong", lambda log: [log[0], replace(log[1], stored_crc32=1), *log[2:]]),
    "an end with another checksum": ("wrong", lambda log: [*log[:-1], corrected(log[-1], crc32="00000000")]),
    "an end with another length": ("wrong", lambda log: [*log[:-1], corrected(log[-1], frames=FRAMES - 1)]),
    "too short, though whole in itself": ("lost", lambda log: [*log[:3], corrected(log[-1], frames=18_000)]),
}


def corrected(end: CheckedEntry, **fields: object) -> CheckedEntry:
    done = end.done
    assert done is not None
    given = {"blocks": done.blocks, "frames": done.frames, "seconds": done.seconds, "crc32": done.crc32, **fields}
    return replace(end, done=wire.Done(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_log_is_found_damaged_where(damage: str) -> None:
    what, harm = DAMAGES[damage]
    assert what in kinds(judge_log("j", harm(log_of()), REQUEST, REFERENCE))


def received(pcm: bytes = PCM, *, whole: bool = True, request: Request = REQUEST) -> ClientRecord:
    one = ClientRecord(request, "j", accepted=True, whole=whole)
    for start in range(0, len(pcm), 1000):
        one.take(float(start), pcm[start : start + 1000], REFERENCE)
    return one


def test_a_client_that_received_everything_was_not_harmed() -> None:
    assert judge_client(received(), "done", REFERENCE) == []


def test_a_client_that_received_one_wrong_sample_was_harmed() -> None:
    broken = PCM[:20_001] + bytes([PCM[20_001] ^ 1]) + PCM[20_002:]
    found = received(broken)
    assert found.wrong_at == 20_001
    assert kinds(judge_client(found, "done", REFERENCE)) == {"wrong"}


def test_a_repeated_piece_is_a_wrong_sample_at_the_client() -> None:
    assert kinds(judge_client(received(PCM[:20_000] + PCM[10_000:]), "done", REFERENCE)) == {"wrong"}


def test_a_client_that_received_less_than_a_done_job_has_lost_something() -> None:
    assert kinds(judge_client(received(PCM[:-2]), "done", REFERENCE)) == {"lost"}


def test_a_client_that_received_more_than_a_done_job_received_it_doubled() -> None:
    assert kinds(judge_client(received(tone_pcm(1.01)), "done", REFERENCE)) == {"doubled"}


def test_a_body_that_never_ended_is_a_loss() -> None:
    assert kinds(judge_client(received(whole=False), "done", REFERENCE)) == {"lost"}


def test_a_job_without_a_request_is_a_request_doubled() -> None:
    assert surplus(["a", "b"], {"a", "b", "refused"}) == []
    assert [(damage.what, damage.job) for damage in surplus(["a", "b", "x"], {"a", "b"})] == [("doubled", "x")]


def test_an_accepted_job_without_a_log_is_lost() -> None:
    assert kinds(judge_client(received(b""), "", REFERENCE)) == {"lost"}


def test_a_right_request_that_was_refused_for_good_is_damage() -> None:
    refused = ClientRecord(REQUEST, "j", denied="404 not_found")
    assert kinds(judge_client(refused, "", REFERENCE)) == {"wrong"}
    assert judge_client(replace(refused, request=replace(REQUEST, behaviour="wrong")), "", REFERENCE) == []


def test_a_client_that_hangs_up_may_receive_less() -> None:
    left = replace(REQUEST, behaviour="hang_up")
    assert judge_client(received(PCM[:5000], whole=False, request=left), "done", REFERENCE) == []


@pytest.mark.parametrize("start", [0, 1, 65_536 * 2 - 3, 65_536 * 2 + 7, 1_000_001])
def test_the_reference_of_tone_is_the_contract_at_any_offset(start: int) -> None:
    right = tone_pcm(30.0)[start : start + 3000]
    assert REFERENCE.wrong_at(start, right) is None
    assert REFERENCE.wrong_at(start, right[:2000] + bytes([right[2000] ^ 255]) + right[2001:]) == start + 2000


def test_a_recording_that_goes_on_after_its_end_is_wrong() -> None:
    recording = samples.Reference(PCM[:4000], 24_000, 1)
    assert recording.wrong_at(3000, PCM[3000:4000]) is None
    assert recording.wrong_at(3000, PCM[3000:4002]) == 4000
