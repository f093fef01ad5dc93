"""The quality patrol: measures the audio of running jobs, in a thread, with 2 % of the wall time at most.

Nothing waits for it but `done`, for `_WAIT_S`. A job that it has no time for is not measured; the counts say so.
"""

import asyncio
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import Final

import msgspec

from bus import wire
from bus.fleet.messages import ModelCard
from bus.jobs.claim import Claim
from bus.quality import Quality
from bus.telemetry.logging import logger
from gpuworker.quality import speech
from gpuworker.quality.meter import Meter, Subject
from gpuworker.quality.speech import SpeechShare
from gpuworker.worker.patrol_budget import Budget, Spending

log = logger(__name__)

#: Processor time by the most seconds of a job, for the reservation: 2 to 6 ms by second, a third of the bound is used.
_COST: Final = 0.002
#: Length of a job whose bound is not known, for the same.
_UNBOUND_S: Final = 60.0
#: The longest that `done` waits for the measures of audio that is complete.
_WAIT_S: Final = 0.25
#: Audio is measured in pieces of about a second.
_PIECE_S: Final = 1.0
#: Audio of one job that may wait to be measured.
_MAX_WAITING_S: Final = 60.0


class Outcome(StrEnum):
    """How the measuring of a job that is done ended."""

    MEASURED = "measured"
    #: The result came after `done` was written.
    LATE = "late"
    #: There was no time for it.
    BUSY = "busy"
    #: Our own code raised.
    FAILED = "failed"


class Busy(Exception):
    """There was no time to measure a job."""


class Measuring:
    """One job, in the patrol's thread: the meter is made, fed and read there."""

    def __init__(self, subject: Subject, budget: Budget, *, detects_speech: bool) -> None:
        self._subject = subject
        self._budget = budget
        self._detects_speech = detects_speech
        self._meter: Meter | None = None
        #: Reserved of the budget, less the time that was spent.
        self._reserved_s = 0.0
        #: Set from any thread: what is still waiting is not measured.
        self.is_over = False

    def add(self, pcm: bytes) -> None:
        """Measure `pcm`, unless there is no time: then never again in this job."""
        if self.is_over:
            return
        now = time.monotonic()
        if self._meter is None:
            self.is_over = not self._begin(now)
        elif self._budget.left_s(now) <= 0:
            self.is_over = True
        if self._meter is None or self.is_over:
            self.release()
            return
        with Spending(self._budget) as spending:
            self._meter.add(pcm)
        self._took(spending.seconds)

    def _begin(self, now: float) -> bool:
        """Reserve the time that the job will take, and make the meter; whether there is as much."""
        seconds = self._subject.bound_s if self._subject.bound_s is not None else _UNBOUND_S
        cost_s = seconds * _COST
        if not self._budget.reserve(cost_s, now):
            return False
        self._reserved_s = cost_s
        detects = self._detects_speech and self._budget.is_rich(now)
        with Spending(self._budget) as spending:
            self._meter = Meter(self._subject, SpeechShare(self._subject.rate_hz) if detects else None)
        self._took(spending.seconds)
        return True

    def _took(self, seconds: float) -> None:
        used_s = min(self._reserved_s, seconds)
        self._reserved_s -= used_s
        self._budget.release(used_s)

    def release(self) -> None:
        """Give back the time that is reserved. May be repeated."""
        self._took(self._reserved_s)

    def finish(self, pcm: bytes) -> Quality:
        """Measure the rest. Raises Busy if not all was measured."""
        try:
            self.add(pcm)
            if self.is_over or self._meter is None:
                raise Busy
            with Spending(self._budget):
                return self._meter.finish()
        finally:
            self.release()


class Patrol:
    """The measuring of one job, as its run sees it."""

    def __init__(
        self, model: str, second_bytes: int, measuring: Measuring, executor: Executor, wait_s: float = _WAIT_S
    ) -> None:
        """`executor`: the patrol's thread. `wait_s`: the longest that `finish` waits."""
        self._model = model
        self._second_bytes = second_bytes
        self._measuring = measuring
        self._executor = executor
        self._wait_s = wait_s
        self._pending = bytearray()
        self._waiting_bytes = 0
        self._result: asyncio.Future[Quality] | None = None
        self._is_reported = False

    def add(self, pcm: bytes) -> None:
        """Measure an entry that is in the log, later."""
        if self._measuring.is_over:
            return
        self._pending += pcm
        if len(self._pending) < self._second_bytes * _PIECE_S:
            return
        piece, self._pending = bytes(self._pending), bytearray()
        if self._waiting_bytes > self._second_bytes * _MAX_WAITING_S:
            self._measuring.is_over = True
            return
        self._waiting_bytes += len(piece)
        self._executor.submit(self._measure, piece)

    def _measure(self, piece: bytes) -> None:
        try:
            self._measuring.add(piece)
        finally:
            self._waiting_bytes -= len(piece)

    async def finish(self) -> Quality | None:
        """The result of all audio; None if it is not there in time, or will never be. It is logged either way.

        May be repeated. Cancelling leaves the measuring as it is.
        """
        result = self._result
        if result is None:
            result = self._result = asyncio.wrap_future(
                self._executor.submit(self._measuring.finish, bytes(self._pending))
            )
        await asyncio.wait([result], timeout=self._wait_s)
        if result.done():
            return self._report(result)
        result.add_done_callback(partial(self._report, is_late=True))
        return None

    def close(self) -> None:
        """The run is over: unless it is done, nothing more is measured."""
        if self._result is None:
            self._measuring.is_over = True
            self._executor.submit(self._measuring.release)

    def _report(self, result: "asyncio.Future[Quality]", *, is_late: bool = False) -> Quality | None:
        """Log a result, once."""
        if result.cancelled():
            return None
        error = result.exception()
        quality = None if error is not None else result.result()
        if not self._is_reported:
            self._is_reported = True
            _log_result(self._model, quality, error, is_late=is_late)
        return quality


def _log_result(model: str, quality: Quality | None, error: BaseException | None, *, is_late: bool) -> None:
    outcome = Outcome.LATE if is_late else Outcome.MEASURED
    if error is not None:
        outcome = Outcome.BUSY if isinstance(error, Busy) else Outcome.FAILED
        if outcome == Outcome.FAILED:
            log.error("quality.failed", error=f"{type(error).__name__}: {error}")
    if quality is None:
        log.info("quality.measured", model=model, outcome=outcome, flags=[], quality={})
        return
    shown = msgspec.to_builtins(quality)
    flags = shown.pop("flags", [])
    (log.warning if flags else log.info)("quality.measured", model=model, outcome=outcome, flags=flags, quality=shown)
    for flag in flags:
        log.debug("quality.flagged", model=model, flag=flag)


class Patrols:
    """The patrol of a worker: one thread, one budget, a `Patrol` for each job."""

    def __init__(self, budget: Budget) -> None:
        self._thread = ThreadPoolExecutor(1, "quality")
        self._budget = budget
        self._has_detector = speech.is_available()

    def begin(self, card: ModelCard, claim: Claim) -> Patrol | None:
        """Measure the audio of a run from its first frame on; None for a model without limits."""
        if card.quality is None:
            return None
        job, bytes_per_s = claim.job, 2 * card.channels * card.rate_hz
        subject = Subject(
            rate_hz=card.rate_hz,
            channels=card.channels,
            limits=card.quality,
            first_frame=claim.position.frame,
            bound_s=job.max_bytes / bytes_per_s if job.max_bytes else None,
            text=wire.text_of(job),
        )
        detects = self._has_detector and card.kind == "speech"
        measuring = Measuring(subject, self._budget, detects_speech=detects)
        return Patrol(card.name, bytes_per_s, measuring, self._thread)

    @property
    def spent_s(self) -> float:
        """Processor time of all measuring, seconds."""
        return self._budget.spent_s

    def close(self) -> None:
        """End the thread after the piece that it is in; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
