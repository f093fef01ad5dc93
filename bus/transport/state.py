"""Whether the connection to NATS is up, how often it was re-established, and who is notified of that."""

import asyncio
from collections.abc import Callable
from typing import Final

from bus.errors import Unreachable
from bus.telemetry.logging import logger

log = logger(__name__)

#: Seconds that other processes get to reconnect after this one has.
PEER_GRACE_S: Final = 5.0
#: Refused acts that are logged, each once.
_MAX_REFUSED: Final = 100


class ConnectionState:
    """State of one connection. `nats_py` and `nats_py_public` report changes; everybody else reads and waits."""

    def __init__(
        self,
        on_down: Callable[[str], None],
        on_refused: Callable[[str, str], None] = lambda act, subject: None,
        peer_grace_s: float = PEER_GRACE_S,
    ) -> None:
        """`on_down` is called with the reason whenever the connection is lost or closed.

        `on_refused` is called with the act that nats-server does not permit to this user, `publish` or `subscription`,
        and its subject in lower case.
        """
        self.is_up = True
        #: Number of reconnects. A reader that sees another value than before may have missed messages.
        self.generation = 0
        #: Loop time of the last reconnect, in seconds; -inf before the first.
        self.reconnected_at = float("-inf")
        #: Set when the connection is closed for good, by us or by a server that refuses us: the process must end.
        self.closed = asyncio.Event()
        self.peer_grace_s = peer_grace_s
        #: Called after every reconnect. The owner of a callback discards it.
        self.on_reconnect: set[Callable[[], None]] = set()
        self._on_down = on_down
        self._on_refused = on_refused
        self._refused: set[tuple[str, str]] = set()
        self._up = asyncio.Event()
        self._up.set()

    async def wait_up(self, timeout_s: float) -> None:
        """Return once connected. Raises Unreachable after `timeout_s`, and at once if closed for good."""
        if self.is_up:
            return
        if self.closed.is_set():
            raise Unreachable("the connection to NATS is closed")
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise Unreachable(f"not connected to NATS for {timeout_s:g} s") from None

    async def wait_for_peers(self) -> None:
        """Return once other processes have had `peer_grace_s` to reconnect as well.

        All processes lose a server that restarts, and some reconnect later than others: until then a missing reply does
        not mean that a peer is gone. Returns at once if this connection was never lost, or long ago.
        """
        now_s = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self.reconnected_at + self.peer_grace_s - now_s))

    def set_down(self, reason: str) -> None:
        """Record that the connection is lost."""
        self.is_up = False
        self._up.clear()
        self._on_down(reason)

    def set_up(self) -> None:
        """Record that the connection is back, and call the callbacks of `on_reconnect`."""
        self.generation += 1
        self.reconnected_at = asyncio.get_running_loop().time()
        self.is_up = True
        self._up.set()
        log.info("nats.reconnected", generation=self.generation)
        for callback in list(self.on_reconnect):
            callback()

    def set_refused(self, act: str, subject: str) -> None:
        """Record that this user lacks a permission; `act`, `subject`: as of `on_refused`."""
        if (act, subject) not in self._refused and len(self._refused) < _MAX_REFUSED:
            self._refused.add((act, subject))
            log.warning("nats.not_permitted", act=act, subject=subject)
        self._on_refused(act, subject)

    def set_closed(self) -> None:
        """Record that the connection is closed for good."""
        if self.is_up:
            self.set_down("connection closed")
        self.closed.set()
