"""The ledger of `antiphon chaos` goes red for every kind of damage: a harness that cannot see harm proves nothing."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from bus import wire
from ops.chaos import samples
from ops.chaos.ledger import Damage, Heard, Line, judge_client, judge_log, surplus
from ops.chaos.orders import Order
from tests.support.tone import tone_pcm

TRUTH = samples.tone()
FRAMES = 24_000
PCM = tone_pcm(1.0)
ORDER = Order(1, "listen", "tone", "tone", {"seconds": 1.0}, seconds=1.0)


def log_of(num_blocks: int = 4, end: str = "done") -> list[Line]:
    """The log of a second of tone, as it should be."""
    lines, crc32, each = [], 0, FRAMES // num_blocks
    for block in range(num_blocks):
        crc32 = zlib.crc32(PCM[block * each * 2 : (block + 1) * each * 2], crc32)
        lines.append(Line(block + 1, "block", block, block * each, each, crc32, crc32))
    done = wire.Done(blocks=num_blocks, frames=FRAMES, seconds=1.0, crc32=f"{crc32:08x}") if end == "done" else None
    return [*lines, Line(num_blocks + 1, end, told_crc32=crc32, crc32=crc32, done=done)]


def kinds(damages: list[Damage]) -> set[str]:
    return {damage.what for damage in damages}


def test_a_whole_log_is_good() -> None:
    assert judge_log("j", log_of(), ORDER, TRUTH) == []


def test_a_log_without_an_end_is_a_lost_job() -> None:
    assert kinds(judge_log("j", log_of()[:-1], ORDER, TRUTH)) == {"lost"}
    assert kinds(judge_log("j", [], ORDER, TRUTH)) == {"lost"}


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
def test_an_end_that_the_request_does_not_explain_is_a_lost_job(end: str) -> None:
    assert kinds(judge_log("j", log_of(end=end), ORDER, TRUTH)) == {"lost"}


def test_an_end_that_the_request_asked_for_is_good() -> None:
    left = replace(ORDER, manner="hang_up", may_end=frozenset({"cancelled", "done"}))
    assert judge_log("j", log_of(end="cancelled"), left, TRUTH) == []


DAMAGES: dict[str, tuple[str, Callable[[list[Line]], list[Line]]]] = {
    "a block is missing": ("lost", lambda log: [log[0], *log[2:]]),
    "frames are missing between two blocks": ("lost", lambda log: [*log[:2], replace(log[2], frame=12_001), *log[3:]]),
    "a block stands twice": ("doubled", lambda log: [*log[:2], log[1], *log[2:]]),
    "a block overlaps the one before": ("doubled", lambda log: [log[0], replace(log[1], frame=5_999), *log[2:]]),
    "a block number is used twice": ("doubled", lambda log: [log[0], replace(log[1], block=0), *log[2:]]),
    "two ends": ("doubled", lambda log: [*log, replace(log[-1], seq=9)]),
    "a block after the end": ("doubled", lambda log: [*log, replace(log[0], block=4, frame=FRAMES, seq=9)]),
    "a wrong sample": ("wrong", lambda log: [log[0], replace(log[1], wrong_at=12_005), *log[2:]]),
    "a checksum that is not the audio's": ("wrong", lambda log: [log[0], replace(log[1], told_crc32=1), *log[2:]]),
    "an end that tells another checksum": ("wrong", lambda log: [*log[:-1], told(log[-1], crc32="00000000")]),
    "an end that tells another length": ("wrong", lambda log: [*log[:-1], told(log[-1], frames=FRAMES - 1)]),
    "too short, though whole in itself": ("lost", lambda log: [*log[:3], told(log[-1], frames=18_000)]),
}


def told(end: Line, **fields: object) -> Line:
    done = end.done
    assert done is not None
    given = {"blocks": done.blocks, "frames": done.frames, "seconds": done.seconds, "crc32": done.crc32, **fields}
    return replace(end, done=wire.Done(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_log_is_found_damaged_where(damage: str) -> None:
    what, harm = DAMAGES[damage]
    assert what in kinds(judge_log("j", harm(log_of()), ORDER, TRUTH))


def heard(pcm: bytes = PCM, *, whole: bool = True, order: Order = ORDER) -> Heard:
    one = Heard(order, "j", accepted=True, whole=whole)
    for start in range(0, len(pcm), 1000):
        one.take(float(start), pcm[start : start + 1000], TRUTH)
    return one


def test_a_client_that_heard_everything_was_denied_nothing() -> None:
    assert judge_client(heard(), "done", TRUTH) == []


def test_a_client_that_heard_one_wrong_sample_was_wronged() -> None:
    spoilt = PCM[:20_001] + bytes([PCM[20_001] ^ 1]) + PCM[20_002:]
    found = heard(spoilt)
    assert found.wrong_at == 20_001
    assert kinds(judge_client(found, "done", TRUTH)) == {"wrong"}


def test_a_repeated_piece_is_a_wrong_sample_in_the_ear() -> None:
    assert kinds(judge_client(heard(PCM[:20_000] + PCM[10_000:]), "done", TRUTH)) == {"wrong"}


def test_a_client_that_heard_less_than_a_done_job_has_lost_something() -> None:
    assert kinds(judge_client(heard(PCM[:-2]), "done", TRUTH)) == {"lost"}


def test_a_client_that_heard_more_than_a_done_job_has_heard_it_doubled() -> None:
    assert kinds(judge_client(heard(tone_pcm(1.01)), "done", TRUTH)) == {"doubled"}


def test_a_body_that_never_ended_is_a_loss() -> None:
    assert kinds(judge_client(heard(whole=False), "done", TRUTH)) == {"lost"}


def test_a_job_that_nobody_asked_for_is_a_request_doubled() -> None:
    assert surplus(["a", "b"], {"a", "b", "refused"}) == []
    assert [(damage.what, damage.job) for damage in surplus(["a", "b", "x"], {"a", "b"})] == [("doubled", "x")]


def test_an_accepted_job_without_a_log_is_lost() -> None:
    assert kinds(judge_client(heard(b""), "", TRUTH)) == {"lost"}


def test_a_right_request_that_was_refused_for_good_is_damage() -> None:
    refused = Heard(ORDER, "j", denied="404 not_found")
    assert kinds(judge_client(refused, "", TRUTH)) == {"wrong"}
    assert judge_client(replace(refused, order=replace(ORDER, manner="wrong")), "", TRUTH) == []


def test_who_hangs_up_may_hear_less() -> None:
    left = replace(ORDER, manner="hang_up")
    assert judge_client(heard(PCM[:5000], whole=False, order=left), "done", TRUTH) == []


@pytest.mark.parametrize("start", [0, 1, 65_536 * 2 - 3, 65_536 * 2 + 7, 1_000_001])
def test_the_truth_about_tone_is_the_contract_at_any_offset(start: int) -> None:
    right = tone_pcm(30.0)[start : start + 3000]
    assert TRUTH.wrong_at(start, right) is None
    assert TRUTH.wrong_at(start, right[:2000] + bytes([right[2000] ^ 255]) + right[2001:]) == start + 2000


def test_a_recording_that_goes_on_after_its_end_is_wrong() -> None:
    recording = samples.Truth(PCM[:4000], 24_000, 1)
    assert recording.wrong_at(3000, PCM[3000:4000]) is None
    assert recording.wrong_at(3000, PCM[3000:4002]) == 4000
