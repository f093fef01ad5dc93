"""A job's log: born once, written by the holder of its lease, ended once. Protocol rules 3 to 14.

birth   `.job`    created with compare-and-set 0; a process that loses the race reads the birth that stands
lease   `.lease`  taken with compare-and-set; its stream sequence is the fence
entries `.c`      each append names the lease it relies on; any later lease shuts it out
"""

import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from bus import wire
from bus.errors import ApiError, BusError, Fenced, Full, NotFound, Unreachable
from bus.jobs.entry import ACCEPTED, BLOCK, CHAIN, FRAME, KIND, MARKS, NEXT, STARTED, Chain, Entry, Position
from bus.jobs.last_resort import free_room
from bus.subjects import JobKey, Subjects
from bus.transport.connection import Connection
from bus.transport.jetstream import EXPECT_LAST, EXPECT_LAST_SUBJECT, MESSAGE_ID, WRONG_LAST_SEQUENCE, JetStream

#: Lease changes by other processes that one ending meets before it gives up; each is a whole takeover.
_END_TRIES: Final = 50


class StoredBirth(NamedTuple):
    """A birth and its sequence in REPLIES."""

    seq: int
    birth: wire.Birth


class StoredLease(NamedTuple):
    """A lease and its sequence in REPLIES, which is the fence."""

    seq: int
    lease: wire.Lease


class Logs:
    """All logs of one deployment. It has no clock and starts no task."""

    def __init__(self, connection: Connection, js: JetStream, subjects: Subjects) -> None:
        self._connection = connection
        self.js = js
        self.subjects = subjects
        self._stream = subjects.replies_stream

    # Birth

    async def birth(self, key: JobKey) -> StoredBirth | None:
        """The `accepted` entry, read from the leader; None if the log was never born or has expired.

        Raises Malformed, Unreachable.
        """
        stored = await self.js.last(self._stream, key.birth)
        return None if stored is None else StoredBirth(stored.seq, wire.decode(wire.Birth, stored.message.data))

    async def create(self, key: JobKey, birth: wire.Birth) -> StoredBirth:
        """Write the log's birth, or read the one it has: compare `queue_seq` to see which it is.

        Cancelling leaves it open whether the birth was written. Raises Full, Unreachable.
        """
        headers = {EXPECT_LAST: "0", KIND: ACCEPTED}
        try:
            ack = await self.js.publish(key.birth, wire.encode(birth), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            found = await self.birth(key)
            if found is None:
                raise BusError(f"{key.birth} existed and was removed meanwhile") from error
            return found
        return StoredBirth(ack.seq, birth)

    # Lease

    async def lease(self, key: JobKey) -> StoredLease | None:
        """The lease, read from the leader; None if there never was one. Raises Malformed, Unreachable."""
        stored = await self.js.last(self._stream, key.lease)
        return None if stored is None else StoredLease(stored.seq, wire.decode(wire.Lease, stored.message.data))

    async def take(self, key: JobKey, lease: wire.Lease, expected_seq: int, patience_s: float | None = None) -> int:
        """Replace the lease that has `expected_seq` (0: none yet); returns the new one's sequence, the fence.

        Cancelling leaves it open whether the lease was taken. Raises Fenced if another process was faster, Full,
        Unreachable after `patience_s` (default: as any request).
        """
        message_id = f"lease.{uuid.uuid4().hex}"
        headers = {EXPECT_LAST: str(expected_seq), MESSAGE_ID: message_id}
        try:
            return (await self.js.publish(key.lease, wire.encode(lease), headers, patience_s)).seq
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            # The server compares sequences before it looks for duplicates: an attempt whose acknowledgement was lost is
            # refused when it is repeated, although the lease is ours.
            current = await self.js.last(self._stream, key.lease)
            if current is not None and current.message.header(MESSAGE_ID) == message_id:
                return current.seq
            raise Fenced(f"{key.lease}: its sequence is not {expected_seq} any more") from error

    # Entries

    async def tail(self, key: JobKey) -> Entry | None:
        """The log's last entry, read from the leader; None for an empty log. Raises Unreachable."""
        stored = await self.js.last(self._stream, key.entries)
        return None if stored is None else Entry.stored(stored)

    async def append(
        self, key: JobKey, lease_seq: int, number: int, headers: dict[str, str], payload: bytes, patience_s: float
    ) -> int:
        """Append one entry under a lease; returns its sequence.

        `number` counts appends under this lease: with it, repeating an unanswered append stores nothing twice.
        Cancelling leaves it open whether the entry was stored. Raises Fenced, Full, Unreachable after `patience_s`.
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
            raise Fenced(f"{key.lease}: sequence {lease_seq} was replaced") from error

    # End

    async def end(self, key: JobKey, kind: wire.End, why: str, payload: object = None) -> wire.End:
        """End the log with `kind`, unless it has an end; returns the end that stands. Idempotent, for any process.

        `payload` is the terminal entry's (default: `wire.Ended`). A lease that already announces an ending is finished
        as announced. Cancelling leaves the ending announced at most; the next caller finishes it. In a full stream the
        job's audio makes room. Raises NotFound, Unreachable, Full if there is none.
        """
        found = await self.birth(key)
        if found is None:
            raise NotFound(f"no job {key.job!r}")
        body = msgspec.to_builtins(wire.Ended(why=why) if payload is None else payload)
        for _ in range(_END_TRIES):
            old_seq, lease = await self.lease(key) or StoredLease(0, wire.Lease(state=wire.LeaseState.HANDED_BACK))
            announced = lease
            try:
                if lease.state not in wire.ENDS:
                    announced = msgspec.structs.replace(lease, state=wire.LeaseState(kind), detail=why, body=body)
                    await self.take(key, announced, old_seq)
                ended = await self._finish(key, announced)
            except Fenced:
                continue
            except Full:
                if await free_room(self.js, self._stream, key, announced.state):
                    continue
                raise
            await self.js.delete(self.subjects.jobs_stream, found.birth.queue_seq)
            if announced.worker:
                stop = wire.Stop(tenant=key.tenant, job=key.job)
                self._connection.publish(self.subjects.stop(announced.worker), wire.encode(stop))
            return ended
        raise BusError(f"{key.lease} was replaced {_END_TRIES} times by other processes while the job was being ended")

    async def _finish(self, key: JobKey, announced: wire.Lease) -> wire.End:
        """Append the announced terminal entry unless one stands; returns the kind that stands.

        An announced ending is never replaced, so only another finisher can append: the entry is compared with the
        tail, not with the lease. Under the lease, a finisher that froze for longer than the server remembers message
        ids would add a second end. Raises Fenced: look again.
        """
        tail = await self.tail(key)
        if tail is not None and tail.is_end:
            return wire.End(tail.kind)
        kind = wire.End(announced.state)
        position, tail_seq = (tail.position, tail.seq) if tail is not None else (Position(), 0)
        headers = {KIND: kind, NEXT: position.header(), EXPECT_LAST: str(tail_seq)}
        try:
            await self.js.publish(key.entries, wire.encode(announced.body), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            raise Fenced(f"{key.entries}: its last sequence is not {tail_seq} any more") from error
        return kind


class Writer:
    """The lease holder's side of a log: appends under one lease, each with where the log stands after it.
    Its methods must not overlap: one append of a job is in flight at a time (rule 7).
    Every method raises Fenced or Unreachable; then nothing more may be appended. A cancelled one leaves it open
    whether its entry was stored, and so does Unreachable. Full: nothing was stored, and the same call may be repeated.
    """

    def __init__(
        self,
        logs: Logs,
        key: JobKey,
        lease_seq: int,
        lease: wire.Lease,
        position: Position,
        started: wire.Started,
        patience_s: float,
    ) -> None:
        """`position`: where the log stands. `patience_s`: how long one append may wait for the bus."""
        self.key = key
        self.lease_seq = lease_seq
        self.lease = lease
        self.position = position
        self._logs = logs
        self._patience_s = patience_s
        #: Goes out with the first entry, then None.
        self._started: wire.Started | None = started
        self._num_appended = 0
        self._chain_is_full = False  # a growing checkpoint did not fit: behind it a later one would leave a gap
        #: Whether an append was left without an answer: where the log stands is then not known.
        self._is_open = False

    async def block(self, pcm: bytes, frames: int, marks: Sequence[wire.Mark] = ()) -> None:
        """Append `frames` frames of interleaved s16le audio and the marks in them, `MAX_MARKS` at most."""
        after = self.position.after_block(pcm, frames)
        headers = {
            KIND: "block",
            BLOCK: str(self.position.block),
            FRAME: str(self.position.frame),
            NEXT: after.header(),
        }
        if marks:
            headers[MARKS] = wire.encode(marks).decode()
        await self._append(headers, pcm, after)

    async def progress(self, progress: wire.Progress) -> None:
        """Append a report of work that made no audio."""
        await self._append({KIND: "progress", NEXT: self.position.header()}, wire.encode(progress), self.position)

    async def checkpoint(self, checkpoint: wire.Checkpoint, *, grows: bool = False) -> bool:
        """Append a checkpoint; later entries name it. `grows`: it holds only what is new since the one before.

        Returns False for one that grows and is not stored, because it or one before it did not fit into the chain.
        """
        headers, payload = {KIND: "checkpoint", NEXT: self.position.header()}, wire.encode(checkpoint)
        before = self.position
        if grows:
            self._chain_is_full |= not before.chain.has_room(len(payload))
            if self._chain_is_full:
                return False
            headers[CHAIN] = before.chain.header()
        seq = await self._append(headers, payload, before if grows else msgspec.structs.replace(before, chain=Chain()))
        self.position = before.after_checkpoint(seq, len(payload), grows=grows)
        self._chain_is_full = False
        return True

    async def end(self, kind: wire.End, payload: object) -> None:
        """Append the terminal entry. Nothing can follow it: a later holder of the lease reads it first."""
        await self._append({KIND: kind, NEXT: self.position.header()}, wire.encode(payload), self.position)

    async def renew(self, waiting_for: str, ack_subject: str) -> None:
        """Write the lease again, to show that the job waits for something, or for nothing any more."""
        lease = msgspec.structs.replace(self.lease, waiting_for=waiting_for, ack=ack_subject)
        self.lease_seq = await self._logs.take(self.key, lease, self.lease_seq, self._patience_s)
        self.lease = lease

    async def release(
        self, state: wire.LeaseState, detail: str, *, host_died: bool = False, traceback: str = ""
    ) -> wire.Lease:
        """Give the lease up as `handed_back`, which costs the job no attempt, or `interrupted`, which does.

        Returns the lease as it is now.
        """
        lease = msgspec.structs.replace(
            self.lease,
            state=state,
            detail=detail,
            waiting_for="",
            host_deaths=self.lease.host_deaths + host_died,
            traceback=traceback or self.lease.traceback,
        )
        self.lease_seq = await self._logs.take(self.key, lease, self.lease_seq)
        return lease

    async def _append(self, headers: dict[str, str], payload: bytes, after: Position) -> int:
        if after.chain.entries:
            headers[CHAIN] = after.chain.header()
        if self._started is not None:
            headers[STARTED] = wire.encode(self._started).decode()
        if self._is_open:
            # With the same number the server might take it for a repeat and drop it with a good acknowledgement.
            raise Unreachable(f"{self.key.entries}: an append is in flight, or was left unanswered")
        self._is_open = True
        try:
            seq = await self._logs.append(
                self.key, self.lease_seq, self._num_appended, headers, payload, self._patience_s
            )
        except (ApiError, Fenced):
            self._is_open = False  # an answer too: the entry was not stored
            raise
        self._is_open = False
        self._started = None
        self.position = after
        self._num_appended += 1
        return seq
