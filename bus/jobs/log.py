"""A job's log: born once, written by whoever holds its lease, ended once. Protocol rules 3 to 14.

birth   `.job`    create with compare-and-set 0; whoever loses reads what stands
lease   `.lease`  taken with compare-and-set; its stream sequence is the fence
entries `.c`      each append names the lease it relies on; anybody else's lease shuts it out
"""

import uuid

import msgspec

from bus import wire
from bus.errors import ApiError, BusError, Fenced, NotFound
from bus.jobs.entry import ACCEPTED, KIND, NEXT, Entry, Position
from bus.subjects import JobKey, Subjects
from bus.telemetry.logging import logger
from bus.transport.connection import Connection
from bus.transport.jetstream import EXPECT_LAST, EXPECT_LAST_SUBJECT, MESSAGE_ID, WRONG_LAST_SEQUENCE, JetStream

log = logger(__name__)

#: One ending may meet this many lease changes by others before it gives up; each is a whole takeover.
_END_TRIES = 50


class Logs:
    """All logs of one deployment. Knows no clock and starts nothing."""

    def __init__(self, connection: Connection, js: JetStream, subjects: Subjects) -> None:
        self._connection, self.js, self.subjects = connection, js, subjects
        self._stream = subjects.replies_stream

    # Birth

    async def birth(self, key: JobKey) -> tuple[int, wire.Birth] | None:
        """(sequence, the `accepted` entry), or None if the log was never born or has expired."""
        stored = await self.js.last(self._stream, key.birth)
        return None if stored is None else (stored.seq, wire.decode(wire.Birth, stored.message.data))

    async def create(self, key: JobKey, birth: wire.Birth) -> tuple[int, wire.Birth]:
        """Give the log its birth, or read the one it has: compare `queue_seq` to see who won.

        Raises Full, Unreachable.
        """
        headers = {EXPECT_LAST: "0", KIND: ACCEPTED}
        try:
            ack = await self.js.publish(key.birth, wire.encode(birth), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            found = await self.birth(key)
            if found is None:
                raise BusError(f"{key.birth} was there and is gone") from error
            return found
        return ack.seq, birth

    # Lease

    async def lease(self, key: JobKey) -> tuple[int, wire.Lease] | None:
        """(sequence, lease), read from the leader; None if there never was one."""
        stored = await self.js.last(self._stream, key.lease)
        return None if stored is None else (stored.seq, wire.decode(wire.Lease, stored.message.data))

    async def take(self, key: JobKey, lease: wire.Lease, expected_seq: int) -> int:
        """Replace the lease that has `expected_seq` (0: none yet); the new one's sequence is the fence.

        Raises Fenced if somebody else was there first.
        """
        mine = f"lease.{uuid.uuid4().hex}"
        headers = {EXPECT_LAST: str(expected_seq), MESSAGE_ID: mine}
        try:
            return (await self.js.publish(key.lease, wire.encode(lease), headers)).seq
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            # The server compares sequences before it looks for duplicates: an attempt whose acknowledgement was lost is
            # refused when it is repeated, although the lease is ours.
            stands = await self.js.last(self._stream, key.lease)
            if stands is not None and stands.message.header(MESSAGE_ID) == mine:
                return stands.seq
            raise Fenced(f"{key.lease}: not at {expected_seq} any more") from error

    # Entries

    async def tail(self, key: JobKey) -> Entry | None:
        """The log's last entry, read from the leader; None for an empty log."""
        stored = await self.js.last(self._stream, key.entries)
        return None if stored is None else Entry.stored(stored)

    async def append(
        self, key: JobKey, lease_seq: int, number: int, headers: dict[str, str], payload: bytes, patience_s: float
    ) -> int:
        """Append one entry under a lease; returns its sequence.

        `number` counts appends under this lease: with it, repeating an unanswered append stores nothing twice.

        Raises Fenced, Full, Unreachable.
        """
        headers = {
            **headers,
            EXPECT_LAST: str(lease_seq),
            EXPECT_LAST_SUBJECT: key.lease,
            MESSAGE_ID: f"{key.tenant}.{key.job}.{lease_seq}.{number}",
        }
        try:
            return (await self.js.publish(key.entries, payload, headers, patience_s)).seq
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            raise Fenced(f"{key.lease}: {lease_seq} holds no longer") from error

    # End

    async def end(self, key: JobKey, kind: wire.End, why: str, payload: object = None) -> wire.End:
        """Make `kind` the end of the log, unless it has one; returns how it ended. Idempotent, for anybody entitled.

        `payload` is the terminal entry's (default: `wire.Ended`). Whoever finds a lease that announces an ending
        finishes that one. Cancelling leaves the ending announced at most; the next one finishes it.

        Raises NotFound, Unreachable.
        """
        found = await self.birth(key)
        if found is None:
            raise NotFound(f"no job {key.job!r}")
        body = msgspec.to_builtins(wire.Ended(why=why) if payload is None else payload)
        for _ in range(_END_TRIES):
            old = await self.lease(key)
            old_seq, held = old or (0, wire.Lease(why="handed_back"))
            if held.why in wire.ENDS:
                announced = held
            else:
                announced = msgspec.structs.replace(held, why=kind, detail=why, body=body)
                try:
                    await self.take(key, announced, old_seq)
                except Fenced:
                    continue
            try:
                ended = await self._finish(key, announced)
            except Fenced:
                continue
            await self.js.delete(self.subjects.jobs_stream, found[1].queue_seq)
            if announced.worker:
                word = wire.encode(wire.Stop(tenant=key.tenant, job=key.job))
                self._connection.publish(self.subjects.stop(announced.worker), word)
            return ended
        raise BusError(f"{key.lease} changed hands {_END_TRIES} times while ending the job")

    async def _finish(self, key: JobKey, announced: wire.Lease) -> wire.End:
        """Append the announced terminal entry unless one stands; returns the kind that stands.

        An announced ending is never replaced, so nobody but another finisher can append: the entry is compared with
        the tail, not with the lease. Under the lease, a finisher that froze for longer than the server remembers
        message ids would add a second end. Raises Fenced: look again.
        """
        tail = await self.tail(key)
        if tail is not None and tail.is_end:
            return _end_kind(tail.kind)
        kind = _end_kind(announced.why)
        position, tail_seq = (tail.position, tail.seq) if tail is not None else (Position(), 0)
        headers = {KIND: kind, NEXT: position.header(), EXPECT_LAST: str(tail_seq)}
        try:
            await self.js.publish(key.entries, wire.encode(announced.body), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            raise Fenced(f"{key.entries}: not at {tail_seq} any more") from error
        return kind


def _end_kind(text: str) -> wire.End:
    for kind in wire.ENDS:
        if kind == text:
            return kind
    raise BusError(f"{text!r} ends no log")
