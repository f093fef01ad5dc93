"""An engine's checkpoint on its way to the bus."""

from gpuworker import pipe
from gpuworker.engine import MAX_CHECKPOINT_BYTES, Checkpoint
from gpuworker.host.failures import checkpoint_message


def test_a_checkpoint_of_the_largest_size_is_passed_on() -> None:
    data = bytes(MAX_CHECKPOINT_BYTES)
    assert checkpoint_message(Checkpoint(7, data, grows=True)) == pipe.Checkpoint(7, data, grows=True)


def test_a_larger_one_fails_its_job_with_its_frame_its_size_and_the_limit() -> None:
    failed = checkpoint_message(Checkpoint(7, bytes(600_000)))
    assert isinstance(failed, pipe.Failed)
    assert failed.code == "engine_failed"
    assert failed.message == "the checkpoint at frame 7 has 600000 bytes, the limit is 524288"
