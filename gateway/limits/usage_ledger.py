"""Audio used, by account and day: counters that outlive every gateway.

Each is a counter of JetStream's (`Nats-Incr`): the server adds, so that no gateway needs to read before it writes, and
the message id is the job, so that gateways that all charge one job charge it once. The stream is made at the first use.
"""

import msgspec

from bus.errors import BusError, Malformed
from bus.jobs.client import Bus
from bus.transport.jetstream import MESSAGE_ID

_INCREMENT = "Nats-Incr"


class _Counter(msgspec.Struct):
    val: str


class Ledger:
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
        """Charge a job once, however often within two minutes this is asked for; returns what is charged in all.

        Cancelling leaves it open whether it was charged; ask again. Raises as `used_ms`.
        """
        await self._declare()
        headers = {_INCREMENT: f"+{ms}", MESSAGE_ID: f"{tenant}.{job}"}
        try:
            await self._bus.js.publish(self._bus.subjects.usage(day, account), b"", headers)
        except BusError:
            self._is_declared = False  # somebody may have removed the stream
            raise
        return await self.used_ms(day, account)

    async def _declare(self) -> None:
        if not self._is_declared:
            await self._bus.topology.declare_usage()
            self._is_declared = True
