"""Which jobs share a forward: gathered by batch key for a few milliseconds, halved when the device has no room."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Final

from gpuworker.engine import Engine
from gpuworker.host.group import Group, Member, Send

#: Jobs with equal keys that arrive within this time share a batch.
GATHER_S: Final = 0.004


@dataclass(slots=True)
class _Batch:
    """Jobs that wait for company."""

    engine: Engine
    due_at: float
    members: list[Member] = field(default_factory=list)


class Batcher:
    """Forms groups. Times are of one monotonic clock, passed in."""

    def __init__(self, send: Send) -> None:
        """`send` is that of the groups, see `Group`."""
        self._send = send
        self._batches: dict[Hashable, _Batch] = {}
        #: Whether a job waits for others.
        self.is_gathering = False

    def add(self, engine: Engine, key: Hashable, member: Member, now: float) -> Group | None:
        """Form a group of `member` and those that wait, if they are as many as fit; None while it waits for others.

        `key`: the engine's `batch_key` of the job.
        """
        shared = (id(engine), key)
        batch = self._batches.setdefault(shared, _Batch(engine, now + GATHER_S))
        batch.members.append(member)
        self.is_gathering = True
        return self._form(shared) if len(batch.members) >= engine.capabilities().max_batch else None

    def form_due(self, now: float) -> list[Group]:
        """Form the groups that have waited long enough."""
        due = [key for key, batch in self._batches.items() if batch.due_at <= now]
        return [group for group in map(self._form, due) if group is not None]

    def _form(self, key: Hashable) -> Group | None:
        batch = self._batches.pop(key)
        self.is_gathering = bool(self._batches)
        members = [member for member in batch.members if not member.is_cancelled]
        return Group(batch.engine, members, self._send) if members else None

    def cancel(self, handle: int) -> None:
        """Leave out a job that waits here; other handles are ignored."""
        for batch in self._batches.values():
            for member in batch.members:
                if member.handle == handle:
                    member.is_cancelled = True

    def halve(self, group: Group) -> list[Group]:
        """Two groups of the jobs that `group` still runs, each job continued at its next frame.

        Fewer than two jobs cannot be halved: the list is empty, and `group` is as before.
        """
        left = group.left()
        if len(left) < 2:
            return []
        for member in left:
            member.job = replace(member.job, start_frame=member.next_frame)
        middle = (len(left) + 1) // 2
        return [Group(group.engine, half, self._send) for half in (left[:middle], left[middle:])]
