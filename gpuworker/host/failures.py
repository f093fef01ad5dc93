"""Messages to the worker about jobs that end because of their engine."""

from traceback import format_exception
from typing import Final

from bus.errors import Invalid
from gpuworker import pipe
from gpuworker.engine import MAX_CHECKPOINT_BYTES, AttemptFailed, Checkpoint, Rejected, TextLost

_MAX_TRACEBACK_CHARS: Final = 8000
#: A script adds its own facts to a checkpoint of its engine.
_MAX_CHECKPOINT_BYTES: Final = MAX_CHECKPOINT_BYTES + (8 << 10)


def engine_failed(message: str) -> pipe.Failed:
    """The message for a job whose engine breaks the protocol."""
    return pipe.Failed("engine_failed", message)


def failure(error: Exception) -> pipe.Failed | pipe.AttemptFailed:
    """The message for a job that ends because its engine, or the check before it, raised `error`."""
    if isinstance(error, Rejected):
        return pipe.Failed("invalid", str(error), error.path)
    if isinstance(error, AttemptFailed):
        return pipe.AttemptFailed(str(error), error.is_fault)
    if isinstance(error, TextLost):
        return pipe.Failed("text_lost", str(error), error.path)
    if isinstance(error, Invalid):
        return pipe.Failed("invalid", str(error), error.path)
    trace = "".join(format_exception(error))
    return pipe.Failed("engine_failed", f"{type(error).__name__}: {error}", "", trace[-_MAX_TRACEBACK_CHARS:])


def checkpoint_message(event: Checkpoint) -> pipe.Checkpoint | pipe.Failed:
    """The message for a checkpoint; one that is too large for the bus fails the job."""
    size = len(event.data)
    if size <= _MAX_CHECKPOINT_BYTES:
        return pipe.Checkpoint(event.frame, event.data, event.grows)
    return engine_failed(f"the checkpoint at frame {event.frame} has {size} bytes, the limit is {MAX_CHECKPOINT_BYTES}")
