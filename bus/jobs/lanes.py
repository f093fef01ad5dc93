"""The order in which consumers are pulled from: high lanes first, no lane passed over for ever. No I/O, no clock."""

from collections.abc import Sequence
from typing import Final

import msgspec

from bus.transport.jetstream import retry_delay_s

#: `Consumer.num_pending` when it is not known; the consumer must be pulled from to learn it.
UNKNOWN: Final = -1


class Lane(msgspec.Struct, frozen=True):
    """Consumers of equal rank."""

    #: As in the subject of a job: `interactive`, `standard`, `batch`.
    name: str
    #: Names of consumers of JOBS.
    consumers: tuple[str, ...]


class Consumer:
    """One consumer as its puller knows it."""

    __slots__ = ("failures", "name", "not_before", "num_pending", "open_pull", "seen_at")

    def __init__(self, name: str) -> None:
        self.name = name
        #: Reply subject of the open long pull, or None.
        self.open_pull: str | None = None
        #: Monotonic seconds of the last message or heartbeat.
        self.seen_at = 0.0
        #: Messages that wait behind the last delivery, as it said; or `UNKNOWN`.
        self.num_pending = UNKNOWN
        #: Immediate pulls in a row without an answer.
        self.failures = 0
        #: Monotonic seconds before which it is not pulled from because of them.
        self.not_before = 0.0

    def answered(self) -> None:
        """An immediate pull was answered."""
        self.failures = 0
        self.not_before = 0.0

    def failed(self, now: float) -> None:
        """At `now`, monotonic seconds, an immediate pull was refused or got no answer: pause, longer each time."""
        self.not_before = now + retry_delay_s(self.failures)
        self.failures += 1

    def forget(self) -> None:
        """Its open pull is void, and the number of messages that wait in it unknown."""
        self.open_pull = None
        self.num_pending = UNKNOWN


class Lanes:
    """All consumers of one puller, highest lane first."""

    def __init__(self, lanes: Sequence[Lane], patience: int) -> None:
        """A lane that has jobs and was passed over `patience` times goes first once."""
        self._patience = patience
        self._lanes = [(lane.name, [Consumer(name) for name in lane.consumers]) for lane in lanes]
        #: All consumers, by name.
        self.consumers = {consumer.name: consumer for _, members in self._lanes for consumer in members}
        #: Deliveries from higher lanes since the last one from this lane, by lane.
        self._num_passed = {lane.name: 0 for lane in lanes}

    def next_to_pull(self, now: float) -> Consumer | None:
        """The consumer to pull from at `now`, monotonic seconds: of the highest lane that has, or may have, jobs.

        A consumer that does not answer is left out for a moment: it must not keep the others waiting.
        """
        waiting = [
            (lane, consumer)
            for lane, members in self._lanes
            for consumer in members
            if consumer.num_pending and consumer.not_before <= now
        ]
        if not waiting:
            return None
        starved = [found for found in waiting if self._num_passed[found[0]] >= self._patience]
        return (starved or waiting)[0][1]

    def batch_for(self, consumer: Consumer, num_free: int) -> int:
        """How many messages to pull from `consumer` at once when `num_free` jobs may start."""
        if consumer.num_pending == UNKNOWN or self._num_passed[self._lane_of(consumer)] >= self._patience:
            return 1
        return min(num_free, consumer.num_pending)

    def delivered(self, consumer: Consumer) -> None:
        """Count a delivery from `consumer`: lower lanes that may have jobs were passed over once more."""
        is_below = False
        for lane, members in self._lanes:
            if consumer in members:
                self._num_passed[lane] = 0
                is_below = True
                members.sort(key=lambda member: member is consumer)  # equals take turns
            elif is_below and any(member.num_pending for member in members):
                self._num_passed[lane] += 1

    def found_empty(self, consumer: Consumer) -> None:
        """An immediate pull from `consumer` brought nothing."""
        consumer.num_pending = 0
        self._num_passed[self._lane_of(consumer)] = 0

    def _lane_of(self, consumer: Consumer) -> str:
        return next(lane for lane, members in self._lanes if consumer in members)
