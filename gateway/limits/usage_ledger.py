"""Audio used, by account and day: counters in JetStream that outlive every gateway.

Each is a server-side counter (`Nats-Incr`): the server adds, so no gateway has to read before it writes. The message id
is the job, so several gateways that charge one job charge it once. The stream is created at the first use.
"""

import msgspec

from bus.errors import BusError, Malformed
from bus.jobs.client import Bus
from bus.transport.jetstream import MESSAGE_ID

_INCREMENT = "Nats-Incr"


class _Counter(msgspec.Struct):
    val: str


class UsageLedger:
    """Reads and increments the counters. Days are UTC, as in `2030-01-31`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._is_declared = False

    async def used_ms(self, day: str, account: str) -> int:
        """Milliseconds of audio charged so far. Raises Unreachable, ApiError, Malformed."""
        await self._declare()
        stored = await self._bus.js.last(self._bus.subjects.usage_stream, self._bus.subjects.usage(day, account))
        if stored is None:
            return 0
        try:
            return int(msgspec.json.decode(stored.message.data, type=_Counter).val)
        except (msgspec.DecodeError, ValueError) as error:
            raise Malformed(f"counter {day} {account}: {error}") from error

    async def charge(self, day: str, account: str, tenant: str, job: str, ms: int) -> int:
        """Charge a job and return the account's milliseconds of that day; charging it again within 2 min adds nothing.

        If cancelled, the job may or may not have been charged: charge it again. Raises as `used_ms`.
        """
        await self._declare()
        headers = {_INCREMENT: f"+{ms}", MESSAGE_ID: f"{tenant}.{job}"}
        try:
            await self._bus.js.publish(self._bus.subjects.usage(day, account), b"", headers)
        except BusError:
            self._is_declared = False  # the stream may have been removed
            raise
        return await self.used_ms(day, account)

    async def _declare(self) -> None:
        if not self._is_declared:
            await self._bus.topology.declare_usage()
            self._is_declared = True
