"""Runs groups of jobs on the device: one step of one group at a time, the group that is next to run dry first."""

from bus.telemetry.logging import logger
from gpuworker import pipe
from gpuworker.crash import StepMark
from gpuworker.engine import OutOfMemory
from gpuworker.host.batcher import Batcher
from gpuworker.host.failures import failure
from gpuworker.host.group import Group, Member
from gpuworker.host.schedule import Schedule

log = logger(__name__)


class Runner:
    """Owns the groups that have been formed, from `enter` to their end.

    A group is in `schedule`, or waits for credit because a job's window is full, or is being stepped.
    """

    def __init__(self, schedule: Schedule[Group], batcher: Batcher, mark: StepMark) -> None:
        self._schedule = schedule
        self._batcher = batcher
        self._mark = mark
        self._members: dict[int, tuple[Group, Member]] = {}
        self._blocked: set[Group] = set()
        #: Whether a group is known to be runnable now. One that was paused, or unblocked, the schedule knows.
        self.is_runnable = False

    def enter(self, group: Group) -> None:
        """Run the jobs of `group` from now on."""
        for member in group.members:
            self._members[member.handle] = (group, member)
        self._schedule.ready(group, group.dry_at, group.starves_at)
        self.is_runnable = True

    def step(self, now: float) -> bool:
        """Let the most urgent group make one event, which may take as long as the engine needs.

        Returns False if no group is runnable now. Engines' errors end the group's jobs and are not raised.
        """
        self.is_runnable = False
        group = self._schedule.pop(now)
        if group is None:
            return False
        pause_s = 0.0
        self._mark.enter(group.members[0].handle, now)
        try:
            pause_s = group.step(now)
        except OutOfMemory as error:
            self._halve(group, error)
            return True
        except Exception as error:  # noqa: BLE001  # the model broke: that ends these jobs and no other
            group.fail(failure(error))
        finally:
            self._mark.leave()
        if group.is_over:
            self._leave(group)
        elif group.is_full:
            self._blocked.add(group)
        elif pause_s > 0:
            self._schedule.pause(group, now + pause_s, group.dry_at, group.starves_at)
        else:
            self._schedule.ready(group, group.dry_at, group.starves_at)
            self.is_runnable = True
        return True

    def cancel(self, handle: int) -> bool:
        """Stop a job; nothing more is sent of it. Returns False if it does not run here."""
        found = self._members.get(handle)
        if found is None:
            return False
        group, member = found
        group.cancel(member)
        if group.is_over:
            self._leave(group)
        else:
            self._unblock(group)  # the job's full window may have been the one that blocked its group
        return True

    def add_credit(self, handle: int, num_bytes: int) -> None:
        """Let a job make `num_bytes` of PCM more; ignored if it does not run here any more."""
        found = self._members.get(handle)
        if found is not None:
            group, member = found
            member.outstanding_bytes -= num_bytes
            self._unblock(group)

    def _unblock(self, group: Group) -> None:
        if group in self._blocked and not group.is_full:
            self._blocked.discard(group)
            self._schedule.ready(group, group.dry_at, group.starves_at)

    def _halve(self, group: Group, error: OutOfMemory) -> None:
        """Run the jobs again in two groups; a job that does not fit alone has failed."""
        model = group.engine.capabilities().name
        num_jobs = len(group.left())
        halves = self._batcher.halve(group)
        if halves:
            log.warning("engine.out_of_memory", model=model, batch=num_jobs, error=str(error))
        else:
            group.fail(pipe.Failed("out_of_memory", f"{model}: {error}"))
        self._leave(group)
        for half in halves:
            self.enter(half)

    def _leave(self, group: Group) -> None:
        self._schedule.drop(group)
        self._blocked.discard(group)
        for member in group.members:
            self._members.pop(member.handle, None)
        try:
            group.close()
        except Exception:  # clean-up of foreign code; the jobs have ended already
            log.exception("engine.close_failed", model=group.engine.capabilities().name)
