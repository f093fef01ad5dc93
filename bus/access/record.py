"""One record in the bucket of the API keys, under a name that is no key's id: read, and changed by compare-and-set."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from bus import wire
from bus.errors import ApiError, Conflict, Malformed
from bus.jobs.client import Bus
from bus.subjects import last_token
from bus.telemetry.logging import logger
from bus.transport.direct import Stored
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE, is_missing_stream

log = logger(__name__)

T = TypeVar("T")
#: Tries of one change before it gives up because of concurrent changes.
_TRIES: Final = 10


def read(kind: type[T], stored: Stored) -> T | None:
    """Return the record in an entry of the bucket; None if it was deleted by hand or is malformed, which is logged."""
    if stored.message.header("KV-Operation") is not None:
        return None
    try:
        return wire.decode(kind, stored.message.data)
    except Malformed as error:
        log.warning("keys.entry_invalid", key=last_token(stored.message.subject), error=str(error))
        return None


class Record(Generic[T]):
    """One record. The connection must be allowed to write the bucket, in order to change it."""

    def __init__(self, bus: Bus, kind: type[T], subject: str, name: str) -> None:
        """`name`: of the record in errors, in the plural."""
        self._bus = bus
        self._kind = kind
        self._subject = subject
        self._name = name

    async def find(self) -> T | None:
        """Return the record; None without one. Raises Unreachable."""
        return (await self._find())[0]

    async def change(self, new: Callable[[T | None], T]) -> T:
        """Store the record that `new` makes of the present one, and return it; makes the bucket if needed.

        Concurrent changes call `new` again. Raises NotPermitted, Conflict, Unreachable, Full.
        """
        await self._bus.topology.declare_bucket("keys")
        for _ in range(_TRIES):
            found, seq = await self._find()
            changed = new(found)
            if changed == found:
                return changed
            try:
                await self._bus.js.publish(self._subject, wire.encode(changed), {EXPECT_LAST: str(seq)})
            except ApiError as error:
                if error.err_code != WRONG_LAST_SEQUENCE:
                    raise
                continue  # another process was first, or it was our own publish whose acknowledgement was lost
            return changed
        raise Conflict(f"{self._name} were changed by other processes {_TRIES} times meanwhile")

    async def _find(self) -> tuple[T | None, int]:
        """The record, and the sequence of its entry; 0 without one."""
        try:
            stored = await self._bus.js.last(self._bus.subjects.keys_stream, self._subject)
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            return None, 0
        return (None, 0) if stored is None else (read(self._kind, stored), stored.seq)
