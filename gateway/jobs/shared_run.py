"""Subscribes to the run that answers a request with a derived id: a new run, or an identical one."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from bus import wire
from bus.errors import Cancelled, Conflict, Expired, Gone, JobError, LogDamaged, NotFound, TooMany, Unreachable
from bus.jobs.attach import Attachment
from bus.jobs.interest import LEFT, NO_LISTENERS, Listener
from bus.subjects import JobKey
from gateway.jobs.cache import InFlight, Outcome, Unusable, with_generation
from gateway.jobs.service import Jobs

#: Generations tried before the request is refused: each was made unusable, or replaced, while this one looked.
_MAX_TRIES: Final = 20
#: Runs that one request moves to after its first, so that a client whose interest cannot be seen by workers does not
#: restart the job forever.
_MAX_MOVES: Final = 8


class SharedRun:
    """One request's place in a run that identical requests share; `async with` it, then `find`."""

    def __init__(self, jobs: Jobs, job: wire.Job) -> None:
        """`job`: validated, with the id of its first generation."""
        self._jobs = jobs
        self._first = job
        self._stack = AsyncExitStack()
        self._generation = 0
        self._num_moves = 0
        self._in_flight: InFlight
        #: The job of the generation that was found, and its key.
        self.job: wire.Job = job
        self.key: JobKey
        self.outcome: Outcome = "miss"
        #: Whether this request made the job of that generation.
        self.is_new = False
        #: The `done` entry of a run that had finished before this request.
        self.done: wire.Done | None = None
        self.listener: Listener
        self.attachment: Attachment

    async def __aenter__(self) -> "SharedRun":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def find(self, *, fresh: bool) -> None:
        """Start the run, or attach to the newest identical one. `fresh`: only to a run that starts after this call.

        Raises as `Jobs.accept` does.
        """
        cache = self._jobs.cache
        known = cache.remembered(self._first)
        self._generation = known or 0
        if fresh:
            self._generation = await cache.next_generation(self._first, -1 if known is None else known)
        await self._attach(exists=known is not None and not fresh)
        cache.counts[self.outcome] += 1

    async def move_on(self, error: JobError) -> bool:
        """Attach to another run after this one ended with `error`; False if the request ends with that error.

        A run that started before this request may end at a deadline of its own. Any run may be cancelled for want of
        listeners although this request listens: it may have joined at that moment, or during an outage of the bus. A
        damaged log answers no identical request any more.
        """
        has_expired = isinstance(error, Expired) and self.outcome == "shared"
        was_left = isinstance(error, Cancelled) and str(error) in {LEFT, NO_LISTENERS}
        is_purged = isinstance(error, Gone | LogDamaged)
        if not (has_expired or was_left or is_purged) or self._num_moves == _MAX_MOVES:
            return False
        self._num_moves += 1
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        # A part of a purged generation is gone: the rest of it is of no use.
        await self._attach(exists=not is_purged or await self._next())
        return True

    def finished(self) -> None:
        """The run has ended: requests that come later look for themselves."""
        self._jobs.cache.finished(self.key, self._in_flight)

    async def _attach(self, *, exists: bool) -> None:
        """Attach to a usable generation. `exists`: the current one was accepted before, as far as is known."""
        for _ in range(_MAX_TRIES):
            self.job = with_generation(self._first, self._generation)
            self.key = self._jobs.bus.subjects.job_key(self.job.tenant, self.job.id)
            async with AsyncExitStack() as stack:
                outcome = await self._try(stack, exists)
                if outcome is not None:
                    self._jobs.cache.remember(self._first, self._generation)
                    self.outcome = outcome
                    self.is_new = outcome == "miss"
                    self._stack = stack.pop_all()
                    return
            exists = await self._next()
        raise Unreachable(f"job {self.job.id!r}: {_MAX_TRIES} identical runs ended while this request looked for one")

    async def _next(self) -> bool:
        """Go to the newest generation, or to the next one to create; whether it exists."""
        newest = await self._jobs.cache.next_generation(self._first, self._generation) - 1
        exists = newest > self._generation
        self._generation = newest if exists else self._generation + 1
        return exists

    async def _try(self, stack: AsyncExitStack, exists: bool) -> Outcome | None:
        """Attach to the current generation, or start it; None if it is unusable."""
        key = self.key
        cache = self._jobs.cache
        listener, attachment = await stack.enter_async_context(self._jobs.listen(key, self.job))
        self.listener = listener
        self.attachment = attachment
        self._in_flight, is_first = stack.enter_context(cache.join(key))
        settled = self._in_flight.settled
        outcome: Outcome | Unusable
        if is_first:
            try:
                outcome = await self._resolve(exists)
            except BaseException:
                cache.finished(key, self._in_flight)  # requests that have joined would otherwise wait forever
                raise
            if not settled.done():
                settled.set_result("shared" if outcome == "miss" else outcome)
        else:
            await asyncio.wait((settled,))
            answer = settled.result()
            # Unknown: the first request failed, or the run has ended meanwhile.
            outcome = await self._resolve(exists) if answer == "unknown" else answer
        if outcome == "unusable":
            self.listener.saw_end = True
            return None
        if outcome == "hit":
            self.listener.saw_end = True
            cache.finished(key, self._in_flight)  # the run is not in progress: later requests look for themselves
        if outcome != "miss":
            self.attachment.read_back()
        return outcome

    async def _resolve(self, exists: bool) -> Outcome | Unusable:
        """How the current generation answers; starts it unless it is there."""
        found = await self._look() if exists else None
        if found is not None:
            return found
        try:
            accepted = await self._jobs.accept(self.job, self.listener)
        except Conflict:
            return "unusable"  # another job has that id
        except TooMany:
            found = await self._look()
            if found is None or found == "unusable":
                raise
            return found  # attaching to a run costs nothing
        if accepted.is_new:
            return "miss"
        return await self._look() or "unusable"

    async def _look(self) -> Outcome | Unusable | None:
        """How the current generation answers, from its log; None if it does not exist."""
        self.done, outcome = await _look(self._jobs, self._first, self._generation, self.key)
        return outcome


async def _look(
    jobs: Jobs, first: wire.Job, generation: int, key: JobKey
) -> tuple[wire.Done | None, Outcome | Unusable | None]:
    """The `done` entry of a generation, and how it answers: by its log alone, and by whether a newer one exists."""
    done, has_newer, is_identical = await asyncio.gather(
        jobs.cache.done(first, generation),
        jobs.cache.exists(first, generation + 1),
        jobs.cache.is_identical(first, generation),
    )
    if has_newer or is_identical is False:
        return done, "unusable"
    if done is not None:
        return done, "hit" if is_identical else "unusable"  # no birth: retention has begun to remove it
    try:
        found = await jobs.find(key)
    except NotFound:
        return None, None
    except Gone:
        return None, "unusable"
    if not found.is_ended:
        return None, "shared"
    return None, "hit" if found.state == "done" else "unusable"
