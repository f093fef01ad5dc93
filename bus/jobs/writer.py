"""The holder's side of a log: fenced appends, one in flight, each carrying where the log stands after it."""

from collections.abc import Sequence

import msgspec

from bus import wire
from bus.errors import ApiError, Fenced, Unreachable
from bus.jobs.entry import BLOCK, FRAME, KIND, MARKS, NEXT, STARTED, Position
from bus.jobs.log import Logs
from bus.subjects import JobKey


class Writer:
    """Appends under one lease. Its methods must not overlap: one append of a job is in flight at a time (rule 7)."""

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
        self.key, self.lease_seq, self.lease, self.position = key, lease_seq, lease, position
        self._logs, self._patience_s = logs, patience_s
        #: Goes out with the first entry.
        self._started: wire.Started | None = started
        self._number = 0
        #: Whether an append was left without an answer: then nobody knows where the log stands.
        self._is_open = False

    async def block(self, pcm: bytes, frames: int, marks: Sequence[wire.Mark] = ()) -> None:
        """Append `frames` frames of s16le audio and the marks in them, `MAX_MARKS` at most.

        Raises Fenced, Full, Unreachable; then nothing may be appended.
        """
        after = self.position.after_block(pcm, frames)
        headers = {KIND: "block", BLOCK: str(self.position.block), FRAME: str(self.position.frame)}
        if marks:
            headers[MARKS] = wire.encode(marks).decode()
        await self._append(headers, pcm, after)

    async def progress(self, progress: wire.Progress) -> None:
        await self._append({KIND: "progress"}, wire.encode(progress), self.position)

    async def checkpoint(self, checkpoint: wire.Checkpoint) -> None:
        """Append a checkpoint. Later entries name it, so a replacement finds it with one read."""
        seq = await self._append({KIND: "checkpoint"}, wire.encode(checkpoint), self.position)
        self.position = msgspec.structs.replace(self.position, checkpoint_seq=seq)

    async def end(self, kind: wire.End, payload: object) -> None:
        """Append the terminal entry. Nothing can follow it: whoever takes the lease later reads it first."""
        await self._append({KIND: kind}, wire.encode(payload), self.position)

    async def give_up(self, why: wire.Why, detail: str, *, host_died: bool = False, traceback: str = "") -> wire.Lease:
        """Let go of the lease: `handed_back` costs the job no attempt, `interrupted` does. Returns it as it now stands.

        Raises Fenced.
        """
        lease = msgspec.structs.replace(
            self.lease,
            why=why,
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
            # With the same number it might be taken for a repeat of that one and vanish with a good acknowledgement.
            raise Unreachable(f"{self.key.entries}: an append is in flight, or was left unanswered")
        self._is_open = True
        try:
            seq = await self._logs.append(self.key, self.lease_seq, self._number, headers, payload, self._patience_s)
        except (ApiError, Fenced):
            self._is_open = False  # an answer too: it was not stored
            raise
        self._is_open = False
        self._started, self.position = None, after
        self._number += 1
        return seq
