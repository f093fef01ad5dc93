"""The lease holder's side of a log: fenced appends, one in flight, each carrying where the log stands after it."""

from collections.abc import Sequence

import msgspec

from bus import wire
from bus.errors import ApiError, Fenced, Unreachable
from bus.jobs.entry import BLOCK, FRAME, KIND, MARKS, NEXT, STARTED, Position
from bus.jobs.log import Logs
from bus.subjects import JobKey


class Writer:
    """Appends under one lease. Its methods must not overlap: one append of a job is in flight at a time (rule 7).

    Every method raises Fenced, Full or Unreachable; then nothing more may be appended. A cancelled one leaves it open
    whether its entry was stored, and so does Unreachable.
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
        #: Whether an append was left without an answer: where the log stands is then not known.
        self._is_open = False

    async def block(self, pcm: bytes, frames: int, marks: Sequence[wire.Mark] = ()) -> None:
        """Append `frames` frames of interleaved s16le audio and the marks in them, `MAX_MARKS` at most."""
        after = self.position.after_block(pcm, frames)
        headers = {KIND: "block", BLOCK: str(self.position.block), FRAME: str(self.position.frame)}
        if marks:
            headers[MARKS] = wire.encode(marks).decode()
        await self._append(headers, pcm, after)

    async def progress(self, progress: wire.Progress) -> None:
        """Append a report of work that made no audio."""
        await self._append({KIND: "progress"}, wire.encode(progress), self.position)

    async def checkpoint(self, checkpoint: wire.Checkpoint) -> None:
        """Append a checkpoint. Later entries carry its sequence, so a replacement finds it with one read."""
        seq = await self._append({KIND: "checkpoint"}, wire.encode(checkpoint), self.position)
        self.position = msgspec.structs.replace(self.position, checkpoint_seq=seq)

    async def end(self, kind: wire.End, payload: object) -> None:
        """Append the terminal entry. Nothing can follow it: a later holder of the lease reads it first."""
        await self._append({KIND: kind}, wire.encode(payload), self.position)

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
            host_deaths=self.lease.host_deaths + host_died,
            traceback=traceback or self.lease.traceback,
        )
        self.lease_seq = await self._logs.take(self.key, lease, self.lease_seq)
        return lease

    async def _append(self, headers: dict[str, str], payload: bytes, after: Position) -> int:
        headers[NEXT] = after.header()
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
