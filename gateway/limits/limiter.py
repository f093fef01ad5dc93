"""Limits that hold across gateways: requests per second, concurrent jobs, audio-seconds per day.

Every gateway decides alone, at once, from what it has granted itself and what the others tell it
(`gateway.limits.gossip`). What is decided wrongly for want of news is paid back (requests), found out by asking the
queue (jobs), or in a counter that all gateways share (audio). `docs/limits.md` says how exact each is, and why.
"""

import asyncio
import time
from typing import Final

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
from gateway.limits.audio_charges import Audio
from gateway.limits.counted_jobs import Counted, CountedJobs, account_of
from gateway.limits.gossip import Gossip, Usage
from gateway.limits.rates import Rate, Rates, Standing, rate_of
from gateway.limits.reconcile import Watch

log = logger(__name__)

REQUESTS: Final = "requests_per_s"
JOBS: Final = "concurrent_jobs"
AUDIO: Final = "audio_s_per_day"
#: Nobody can say when a job will end.
_JOBS_RETRY_AFTER_S: Final = 1.0
_UNASKED_S: Final = 1.0
_MEET_S: Final = 0.1
_NO_LIMITS: Final = Limits()


class Granted(msgspec.Struct, frozen=True):
    """A request that was let through, and what is left after it."""

    rate: Rate
    standing: Standing


class Limiter:
    def __init__(self, bus: Bus, ring: KeyRing, address_rate: Rate | None, tasks: asyncio.TaskGroup) -> None:
        """`address_rate`: what one address may ask for, whatever its keys. `tasks` outlives every request."""
        self._bus, self._ring, self._address_rate = bus, ring, address_rate
        self._gossip = Gossip(bus.connection, bus.subjects, bus.clock)
        self._rates = Rates()
        self._jobs = CountedJobs(self._gossip.me)
        self._audio = Audio(bus)
        self._watch = Watch(bus, self._jobs, self._audio, self._gossip, tasks, self._limits_of)

    async def run(self) -> None:
        """Tell, hear and look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gossip.run(self, lambda: self._rates.forget_idle(time.monotonic())))
            tasks.create_task(self._watch.run())
            tasks.create_task(self._meet())

    async def _meet(self) -> None:
        """Count, once, what was accepted before this gateway was there: it is charged though nobody asks again."""
        tenants: set[str] | None = None
        while tenants is None or tenants:
            await asyncio.sleep(_MEET_S)
            if tenants is None and self._ring.is_read:
                tenants = self._ring.tenants(lambda limits: limits.audio_s_per_day is not None)
                tenants |= {SHARED_TENANT} if tenants else set()
            try:
                for tenant in sorted(tenants or ()):
                    await self._watch.know(tenant)
                tenants = None if tenants is None else set()
            except BusError as error:
                log.warning("limit.refresh_failed", error=str(error))  # the next turn asks again

    async def close(self) -> None:
        """Charge what has ended and is not charged yet; bounded."""
        await self._watch.close()

    # Requests

    def request(self, caller: Caller) -> Granted | None:
        """Let a request that makes work through, or raise TooMany. None: nothing limits it.

        To be called once for a request over HTTP, and once for each utterance on a socket.
        """
        limits = caller.limits
        account = account_of(caller.key, caller.tenant)
        asked = [(f"address-{site_of(caller.address)}", self._address_rate)] if caller.address else []
        asked.append((account, rate_of(limits.requests_per_s, limits.burst)))
        now_s = time.monotonic()
        granted = None
        limited = [(name, self._now(rate)) for name, rate in asked if rate is not None]
        for name, rate in limited:
            standing = self._rates.standing(name, rate, now_s)
            if not standing.left:
                raise self._too_many_requests(name, rate, standing)
        for name, rate in limited:
            self._rates.grant(name, rate, now_s)
            granted = Granted(rate, self._rates.standing(name, rate, now_s))
        if limited:
            self._gossip.changed()
        return granted

    def _now(self, rate: Rate) -> Rate:
        """While nothing can be heard of the others, each of them counts as asking as much as this one."""
        return rate if self._bus.connection.state.is_up else rate.shared_by(self._gossip.num_gateways)

    def _too_many_requests(self, account: str, rate: Rate, standing: Standing) -> TooMany:
        per_s = f"{rate.per_s:g} requests per second, {rate.burst} at once"
        text = f"{_whose(account)} may send {per_s}; try again in {standing.retry_after_s:.2f} s"
        error = refusal(text, REQUESTS, account, rate.per_s, 0.0, standing.retry_after_s)
        error.burst, error.full_after_s = rate.burst, standing.full_after_s
        return error

    # Jobs

    def _limits_of(self, key_id: str, tenant: str) -> Limits:
        """Those of a key, for a job of `tenant`: a bus user may write anybody's key into a job of his own."""
        key = self._ring.get(key_id) if key_id else None
        return _NO_LIMITS if key is None or tenant not in {key.tenant, SHARED_TENANT} else key.limits

    async def admit(self, name: JobKey, job: Job) -> Counted | None:
        """Count a job that is about to be queued; pass what this returns to `queued` or `refused` afterwards.

        None: it is not counted, or is already. Raises TooMany; Unreachable if the ledger cannot be read.
        """
        limits = self._limits_of(job.client.key, job.tenant)
        key = (name.tenant, name.job)
        if not limits.count_jobs or self._jobs.get(key) is not None:
            return None
        account = account_of(job.client.key, job.tenant)
        await self._watch.know(name.tenant)
        if limits.audio_s_per_day is not None and await self._is_too_much(account, limits.audio_s_per_day, name):
            return None
        most = limits.concurrent_jobs
        # Asked again after every wait: others may have taken the room meanwhile.
        while most is not None and self._jobs.count(account) >= most:
            if await self._watch.make_room(account, most):
                continue
            if await self._is_there(name):
                return None
            text = f"{_whose(account)}: {self._jobs.count(account)} wait or run, the limit of jobs at a time is {most}"
            raise refusal(text, JOBS, account, most, 0.0, _JOBS_RETRY_AFTER_S)
        now_s = time.monotonic()
        is_charged = limits.audio_s_per_day is not None
        counted = Counted(key, account, self._gossip.me, now_s, now_s + _UNASKED_S, is_charged=is_charged)
        if not self._jobs.add(counted):
            return None
        self._gossip.changed()
        return counted

    async def _is_there(self, name: JobKey) -> bool:
        """Whether the request makes no job, since there is a log of its name: then it costs nothing."""
        return await self._bus.logs.birth(name) is not None

    async def _is_too_much(self, account: str, most_s: float, name: JobKey) -> bool:
        """False: there is audio left; True: there is none, and none is needed. Raises TooMany."""
        used_s = await self._audio.used_s(account)
        if used_s < most_s:
            return False
        if await self._is_there(name):
            return True
        text = f"{_whose(account)} may have {most_s:g} s of audio a day, and {used_s:.1f} s were made since 00:00 UTC"
        raise refusal(text, AUDIO, account, most_s, 0.0, self._audio.seconds_left_of_day())

    def jobs_of(self, caller: Caller) -> tuple[int, int] | None:
        """How many jobs of a caller's have not ended, as far as is known here, and how many may be; None: no limit."""
        most = caller.limits.concurrent_jobs
        return None if most is None else (self._jobs.count(account_of(caller.key, caller.tenant)), most)

    def queued(self, counted: Counted | None, accepted: Accepted) -> None:
        """The job is on the bus, or its log was there before."""
        if counted is None:
            return
        if not accepted.is_new:
            # Somebody else's to charge. It counts if it runs, and that is asked at the next occasion.
            counted.owner, counted.is_charged, counted.due_s = "", False, 0.0
        self._jobs.queued(counted, accepted.birth.queue_seq)
        self._gossip.changed()

    def refused(self, counted: Counted | None) -> None:
        """The bus took no job."""
        if counted is not None:
            self._jobs.remove(counted.name)
            self._gossip.changed()

    def ended(self, name: JobKey) -> None:
        """The end of a log was heard here."""
        self._watch.ended((name.tenant, name.job))

    # What gateways tell each other

    def news(self, *, everything: bool) -> Usage:
        began, ended = self._jobs.news(everything=everything)
        spent = self._rates.news(time.monotonic(), everything=everything)
        return Usage(spent=spent, began=began, ended=ended, used=self._audio.news(everything=everything))

    def hear(self, gateway: str, usage: Usage, *, late_s: float, everything: bool) -> None:
        now_s = time.monotonic()
        self._rates.hear(gateway, usage.spent, now_s - late_s, everything=everything)
        self._jobs.hear(gateway, usage.began, usage.ended, now_s)
        self._audio.hear(usage.used)

    def gone(self, gateway: str) -> None:
        """Another gateway stopped or is silent: nobody else looks after the jobs that it accepted."""
        self._jobs.orphan(gateway, time.monotonic())
        self._watch.know_anew()


def _whose(account: str) -> str:
    return " ".join(account.split("-", 1))


def refusal(text: str, limit: str, account: str, allowed: float, left: float, retry_after_s: float) -> TooMany:
    error = TooMany(text)
    error.limit, error.scope = limit, account.partition("-")[0]
    error.allowed, error.left, error.retry_after_s = float(allowed), left, retry_after_s
    log.info("limit.reached", limit=limit, account=account, allowed=allowed, retry_after_s=round(retry_after_s, 3))
    return error
