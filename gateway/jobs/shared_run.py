"""Ears for a complete job: one that this request makes, or an equal one that is under way or finished."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from bus import wire
from bus.errors import Cancelled, Conflict, Expired, Gone, JobError, NotFound, TooMany, Unreachable
from bus.jobs.attach import Attachment
from bus.jobs.interest import LEFT, UNHEARD, Listener
from bus.subjects import JobKey
from gateway.http.gateway import Gateway
from gateway.jobs.cache import Flight, How, Spoilt, of_generation

#: What may wait in this process for one slow reader; the rest waits in its log.
MAX_BUFFER_BYTES: Final = 256 << 10
#: Each is a run that others spoilt, or began anew, while this request looked for one.
_TRIES: Final = 20
#: Runs that one request hears besides its first: who listens and is heard nowhere would have them made for ever.
_MOST_MOVES: Final = 8


@asynccontextmanager
async def ears(gateway: Gateway, name: JobKey, job: wire.Job) -> AsyncIterator[tuple[Listener, Attachment]]:
    """Be a listener of `job` and hear all that is said from now on.

    The order is what makes it whole: a listener before there is work, ears before there is sound.
    """
    bus = gateway.bus
    async with gateway.interest.listen(name, run_on=job.run_on is not False, linger_s=job.linger_s) as listener:
        attachment = Attachment(bus.connection, bus.logs, name, is_new=True, max_buffer_bytes=MAX_BUFFER_BYTES)
        async with attachment:
            yield listener, attachment


class EqualRun:
    """The run that answers a job with a derived id; `async with` it, then `find`."""

    def __init__(self, gateway: Gateway, job: wire.Job) -> None:
        """`job`: as its first generation is called."""
        self._gateway, self._job = gateway, job
        self._stack = AsyncExitStack()
        self._generation = self._num_moves = 0
        self._flight: Flight
        #: The generation that was found, and how.
        self.job: wire.Job = job
        self.how: How = "miss"
        #: How it had ended before, where that was seen.
        self.done: wire.Done | None = None
        self.listener: Listener
        self.attachment: Attachment

    async def __aenter__(self) -> "EqualRun":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def find(self, *, fresh: bool) -> None:
        """Make the run, or attach to the newest equal one. `fresh`: it must have begun after this.

        Raises as `Gateway.accept` does.
        """
        reuse = self._gateway.reuse
        known = reuse.remembered(self._job)
        self._generation, is_there = known or 0, known is not None
        if fresh:
            after = -1 if known is None else known
            self._generation, is_there = await reuse.next_generation(self._job, after), False
        await self._attach(is_there)
        reuse.counts[self.how] += 1

    async def move_on(self, error: JobError) -> bool:
        """Whether there is another run to hear, after the one that was joined ended with `error`.

        One that began before this request may end at a deadline of its own. And any may be ended for want of listeners
        though this one listens: it came just then, or could not be heard for an outage. But not run after run.
        """
        is_passed = isinstance(error, Expired) and self.how == "shared"
        is_unheard = isinstance(error, Cancelled) and str(error) in {LEFT, UNHEARD}
        is_forgotten = isinstance(error, Gone)
        if not is_passed and not is_unheard and not is_forgotten:
            return False
        if self._num_moves == _MOST_MOVES:
            return False
        self._num_moves += 1
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        # Of one that retention has begun to take, whatever is left is of no use.
        await self._attach(not is_forgotten or await self._pass_over())
        return True

    def landed(self) -> None:
        """The run has ended: whoever asks next has to look for himself."""
        self._gateway.reuse.landed(self._name, self._flight)

    @property
    def _name(self) -> JobKey:
        return self._gateway.bus.subjects.job_key(self.job.tenant, self.job.id)

    async def _attach(self, is_there: bool) -> None:
        reuse = self._gateway.reuse
        for _ in range(_TRIES):
            self.job = of_generation(self._job, self._generation)
            async with AsyncExitStack() as stack:
                how = await self._try(stack, is_there)
                if how is not None:
                    reuse.remember(self._job, self._generation)
                    self.how, self._stack = how, stack.pop_all()
                    return
            is_there = await self._pass_over()
        raise Unreachable(f"job {self.job.id!r}: {_TRIES} equal runs ended while one was looked for")

    async def _pass_over(self) -> bool:
        """Go to the newest generation, or to the next one to be made; whether it is there."""
        newest = await self._gateway.reuse.next_generation(self._job, self._generation) - 1
        is_there = newest > self._generation
        self._generation = newest if is_there else self._generation + 1
        return is_there

    async def _try(self, stack: AsyncExitStack, is_there: bool) -> How | None:
        """Attach to this generation, or make it; None if another one has to be looked for."""
        name, reuse = self._name, self._gateway.reuse
        self.listener, self.attachment = await stack.enter_async_context(ears(self._gateway, name, self.job))
        self._flight, is_first = stack.enter_context(reuse.aboard(name))
        if is_first:
            how = await self._settle_for_all(name, is_there)
        else:
            await asyncio.wait((self._flight.settled,))
            told = self._flight.settled.result()
            # Unknown: whoever was first could not tell, or the run ended meanwhile.
            how = await self._settle(name, is_there) if told == "unknown" else told
        if how == "spoilt":
            self.listener.saw_end = True
            return None
        if how == "hit":
            self.listener.saw_end = True
            reuse.landed(name, self._flight)  # it does not run: whoever comes next looks for himself
        if how != "miss":
            self.attachment.read_back()
        return how

    async def _settle_for_all(self, name: JobKey, is_there: bool) -> How | Spoilt:
        flight = self._flight
        try:
            how = await self._settle(name, is_there)
        except BaseException:
            self._gateway.reuse.landed(name, flight)
            raise
        if not flight.settled.done():
            flight.settled.set_result("shared" if how == "miss" else how)
        return how

    async def _settle(self, name: JobKey, is_there: bool) -> How | Spoilt:
        found = await self._look(name) if is_there else None
        if found is None:
            try:
                accepted = await self._gateway.accept(name, self.job, self.listener)
            except Conflict:
                return "spoilt"  # by a job that is no equal one
            except TooMany:
                found = await self._look(name)
                if found is None or found == "spoilt":
                    raise
                return found  # what is there costs nothing
            if accepted.is_new:
                return "miss"
            found = await self._look(name)
        return found or "spoilt"

    async def _look(self, name: JobKey) -> How | Spoilt | None:
        """How this generation would answer; None if there is none. One that is not the newest is as good as spoilt."""
        reuse = self._gateway.reuse
        self.done, is_old, is_equal = await asyncio.gather(
            reuse.done(self._job, self._generation),
            reuse.exists(self._job, self._generation + 1),
            reuse.is_equal(self._job, self._generation),
        )
        if is_old or is_equal is False:
            return "spoilt"
        if self.done is not None:
            return "hit" if is_equal else "spoilt"  # without a birth: retention has begun to take it
        try:
            found = await self._gateway.deadlines.look(name)
        except NotFound:
            return None
        except Gone:
            return "spoilt"
        if not found.is_ended:
            return "shared"
        return "hit" if found.state == "done" else "spoilt"
