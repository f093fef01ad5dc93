"""Limits that hold across gateways: requests per second, concurrent jobs, audio-seconds per day.

Every gateway decides alone and at once, from its own grants and from those that the others report
(`gateway.limits.gossip`). A decision that was wrong for want of news is paid back (requests), corrected by checking the
queue (jobs), or found in a counter that all gateways share (audio). `docs/limits.md` says how exact each limit is.

Nothing of this folder runs for a caller without limits: `limits_addresses` and `counted` say when there is nothing to
do.
"""

import asyncio
import functools
import time
from typing import Final, NamedTuple

import msgspec

from bus.access.keyring import KeyRing
from bus.access.keys import Limits
from bus.errors import BusError, TooMany
from bus.jobs.client import Bus
from bus.jobs.submit import Accepted
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.wire import Job
from gateway.access.addresses import site_of
from gateway.access.caller import SHARED_TENANT, Caller
from gateway.limits.audio_charges import AudioCharges
from gateway.limits.audio_room import AudioRoom
from gateway.limits.counted_jobs import CountedJob, CountedJobs, account_of
from gateway.limits.gossip import Gossip, Usage
from gateway.limits.pending_charges import PendingCharges
from gateway.limits.queue_room import QueueRoom
from gateway.limits.queue_scan import QueueScan
from gateway.limits.rates import Rate, Rates, Standing, rate_of
from gateway.limits.reconcile import Reconciler
from gateway.limits.refusals import log_reached, too_many_jobs, too_many_requests, too_much_audio

log = logger(__name__)

_FIRST_CHECK_S: Final = 1.0
_COUNT_EARLIER_S: Final = 0.1
_NO_LIMITS: Final = Limits()


class Granted(msgspec.Struct, frozen=True):
    """A request that was let through under a rate, and the rest of the rate after it."""

    rate: Rate
    standing: Standing


class RequestLimiter:
    """Requests per second, of keys and of addresses."""

    def __init__(self, bus: Bus, rates: Rates, gossip: Gossip, address_rate: Rate | None) -> None:
        """`address_rate`: the limit of each client address, whatever its keys; None: no limit."""
        self._bus = bus
        self._gossip = gossip
        self._address_rate = address_rate
        #: Whether a request of any caller may be too many.
        self.limits_addresses = address_rate is not None
        self._rates = rates

    def grant(self, caller: Caller) -> Granted | None:
        """Count a request that makes work, and let it through. None: no limit applies to it. Raises TooMany.

        Call it once for each HTTP or NATS request, and once for each utterance on a socket.
        """
        if caller.limits.requests_per_s is None and self._address_rate is None:
            return None
        now_s = time.monotonic()
        limited = [(account, self._fair_share(rate)) for account, rate in self._rates_of(caller)]
        for account, rate in limited:
            standing = self._rates.standing(account, rate, now_s)
            if not standing.left:
                error = too_many_requests(account, rate, standing)
                log_reached(caller.tenant, account, error)
                raise error
        granted = None
        for account, rate in limited:
            self._rates.grant(account, rate, now_s)
            granted = Granted(rate, self._rates.standing(account, rate, now_s))
        if limited:
            self._gossip.changed()
        return granted

    def num_left(self, caller: Caller) -> int | None:
        """Requests that the caller may send now; None: no limit applies to it."""
        now_s = time.monotonic()
        rates = self._rates_of(caller)
        return min((self._rates.standing(account, rate, now_s).left for account, rate in rates), default=None)

    def _rates_of(self, caller: Caller) -> list[tuple[str, Rate]]:
        """The accounts whose rates apply to the caller's requests."""
        found: list[tuple[str, Rate]] = []
        if caller.address and self._address_rate is not None:
            found.append((f"address-{site_of(caller.address)}", self._address_rate))
        rate = rate_of(caller.limits.requests_per_s, caller.limits.burst)
        if rate is not None:
            found.append((account_of(caller.key, caller.tenant), rate))
        return found

    def _fair_share(self, rate: Rate) -> Rate:
        """While the other gateways cannot report, each is assumed to receive as many requests as this one."""
        return rate if self._bus.connection.state.is_up else rate.shared_by(self._gossip.num_gateways)


class AudioToday(NamedTuple):
    """A key's audio of the day, UTC, in seconds: used, allowed, and the time until the day ends."""

    used_s: float
    allowed_s: float
    resets_in_s: float


class JobLimiter:
    """Concurrent jobs and audio per day, of keys."""

    def __init__(
        self, bus: Bus, ring: KeyRing, jobs: CountedJobs, audio: AudioCharges, gossip: Gossip, tasks: asyncio.TaskGroup
    ) -> None:
        """`tasks` outlives every request."""
        self._bus = bus
        self._jobs = jobs
        self._audio = audio
        self._gossip = gossip
        self._limits_of = functools.partial(_limits_of, ring)
        #: Jobs that count, by name. While there are none, `ended` has nothing to do.
        self.counted = jobs.by_name
        self.charges = PendingCharges(audio, bus.subjects, gossip.changed)
        self.reconciler = Reconciler(bus, jobs, self.charges, gossip.changed, tasks)
        self.scan = QueueScan(bus, jobs, self._limits_of)

    async def admit(self, key: JobKey, job: Job) -> CountedJob | None:
        """Count a job that is about to be queued; pass the result to `queued` or `refused` afterwards.

        None: no limit applies to the job, it is counted already, or its log exists: then the request makes no job, and
        costs nothing. Raises TooMany; Unreachable if the queue or the ledger cannot be read.
        """
        if not job.client.key:
            return None
        limits = self._limits_of(job.client.key, job.tenant)
        name = (key.tenant, key.job)
        if not limits.count_jobs or name in self._jobs.by_name:
            return None
        account = account_of(job.client.key, job.tenant)
        await self.scan.load(key.tenant)
        try:
            await self._check(account, limits)
        except TooMany as error:
            if await self._bus.logs.birth(key) is not None:
                return None
            log_reached(key.tenant, account, error)
            raise
        now_s = time.monotonic()
        is_charged = limits.audio_s_per_day is not None
        counted = CountedJob(name, account, self._gossip.id, now_s, now_s + _FIRST_CHECK_S, is_charged=is_charged)
        if not self._jobs.add(counted):
            return None
        self._gossip.changed()
        return counted

    async def _check(self, account: str, limits: Limits) -> None:
        """Raises TooMany if one more job is too many. Never suspends between the last comparison and its return."""
        if limits.audio_s_per_day is not None:
            used_s = await self._audio.used_s(account)
            if used_s >= limits.audio_s_per_day:
                raise too_much_audio(account, used_s, limits.audio_s_per_day, self._audio.seconds_left_of_day())
        most = limits.concurrent_jobs
        # Compared again after every wait: another request may have taken the place meanwhile.
        while most is not None and self._jobs.count(account) >= most:
            if not await self.reconciler.refresh(account, most):
                raise too_many_jobs(account, self._jobs.count(account), most)

    def queued(self, counted: CountedJob | None, accepted: Accepted) -> None:
        """Note that the job is on the bus, or that its log existed before."""
        if counted is None:
            return
        if not accepted.is_new:
            # Another request made the job, and its gateway charges it. It counts if it runs: the next check finds out.
            counted.owner = ""
            counted.is_charged = False
            counted.due_s = 0.0
        self._jobs.set_queued(counted, accepted.birth.queue_seq)
        self._gossip.changed()

    def refused(self, counted: CountedJob | None) -> None:
        """Stop counting a job that the bus did not take."""
        if counted is not None:
            self._jobs.remove(counted.name)
            self._gossip.changed()

    def ended(self, key: JobKey) -> None:
        """Stop counting a job whose terminal entry was read, and charge it."""
        name = (key.tenant, key.job)
        if name in self._jobs.by_name:
            self.reconciler.ended(name)

    async def audio_today(self, caller: Caller) -> AudioToday | None:
        """The seconds of audio that the caller's key used and may use today; None: no limit. Raises Unreachable."""
        allowed_s = caller.limits.audio_s_per_day
        if allowed_s is None:
            return None
        used_s = await self._audio.used_s(account_of(caller.key, caller.tenant))
        return AudioToday(used_s, allowed_s, self._audio.seconds_left_of_day())

    def num_jobs(self, caller: Caller) -> tuple[int, int] | None:
        """(jobs of the caller that have not ended as far as is known here, their limit); None: no limit."""
        most = caller.limits.concurrent_jobs
        return None if most is None else (self._jobs.count(account_of(caller.key, caller.tenant)), most)


class Limiter:
    """All limits of one gateway, and the state that it exchanges with the other gateways."""

    def __init__(self, bus: Bus, ring: KeyRing, address_rate: Rate | None, tasks: asyncio.TaskGroup) -> None:
        """`address_rate`: the limit of each client address, whatever its keys. `tasks` outlives every request."""
        self._ring = ring
        self._tasks = tasks
        self._gossip = Gossip(bus.connection, bus.subjects, bus.clock.now)
        self._rates = Rates()
        self._jobs = CountedJobs(self._gossip.id)
        self._audio = AudioCharges(bus)
        self.requests = RequestLimiter(bus, self._rates, self._gossip, address_rate)
        self.jobs = JobLimiter(bus, ring, self._jobs, self._audio, self._gossip, tasks)
        self.audio_room = AudioRoom(bus, self._gossip)
        self.queue_room = QueueRoom(bus)

    async def run(self) -> None:
        """Exchange state with the other gateways and reconcile until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gossip.run(self, lambda: self._rates.forget_idle(time.monotonic())))
            tasks.create_task(self.jobs.reconciler.run())
            tasks.create_task(self._count_earlier_jobs())
            tasks.create_task(self.audio_room.run())
            tasks.create_task(self.queue_room.run())

    async def _count_earlier_jobs(self) -> None:
        """Count, once, jobs to be charged that were accepted before: perhaps no request of their tenants follows."""
        tenants: list[str] | None = None
        while tenants is None or tenants:
            await asyncio.sleep(_COUNT_EARLIER_S)
            if tenants is None and self._ring.is_loaded:
                charged = self._ring.tenants(lambda limits: limits.audio_s_per_day is not None)
                tenants = [*charged, SHARED_TENANT] if charged else []
            try:
                while tenants:
                    await self.jobs.scan.load(tenants[-1])
                    tenants.pop()
            except BusError as error:
                log.warning("limit.refresh_failed", error=str(error))  # the next turn tries again

    async def close(self) -> None:
        """Charge the jobs that have ended and are not charged yet, for 2 s at most."""
        await self.jobs.charges.close()

    @property
    def num_gateways(self) -> int:
        """Gateways that share the limits, this one included."""
        return self._gossip.num_gateways

    def take_changes(self, *, full: bool) -> Usage:
        """For gossip: the changes since the last call, or everything."""
        began, ended = self._jobs.take_changes(full=full)
        spent = self._rates.take_changes(time.monotonic(), full=full)
        used = self._audio.take_changes(full=full)
        reserved, freed = self.audio_room.table.take_changes(full=full)
        return Usage(spent=spent, began=began, ended=ended, used=used, reserved=reserved, freed=freed)

    def merge(self, gateway: str, usage: Usage, *, late_s: float, full: bool) -> None:
        """For gossip: apply a report that another gateway sent `late_s` seconds ago."""
        now_s = time.monotonic()
        self._rates.merge(gateway, usage.spent, now_s - late_s, full=full)
        self._jobs.merge(gateway, usage.began, usage.ended, now_s)
        self._audio.merge(usage.used)
        self.audio_room.table.merge(gateway, usage.reserved, usage.freed, now_s)

    def gateway_left(self, gateway: str) -> None:
        """For gossip: take over the jobs that another gateway accepted; it stopped or is silent."""
        self._jobs.orphan(gateway, time.monotonic())
        self.audio_room.table.orphan(gateway)
        self._tasks.create_task(self.jobs.scan.reload(), name="count the queue")
        self._tasks.create_task(self.audio_room.scan(), name="reserve for the queue")


def _limits_of(ring: KeyRing, key_id: str, tenant: str) -> Limits:
    """The key's limits for a job of `tenant`; none for another tenant's key, which a bus user may write into a job."""
    key = ring.get(key_id) if key_id else None
    return _NO_LIMITS if key is None or tenant not in {key.tenant, SHARED_TENANT} else key.limits
