"""Rate-limit state that gateways exchange: delta gossip over core NATS, without a leader and without acknowledgements.

Each gateway publishes its changes at once after a silence, otherwise at most every 100 ms. Grants are reported both as
a total and as the new ones, so the next message of an account covers a lost one. A gateway that joins, or that finds a
gap in a peer's numbers, sends `hello`; all others then send their full state.
"""

import asyncio
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol

import msgspec
from msgspec import Meta

from bus import wire
from bus.errors import Malformed
from bus.settings import Token
from bus.subjects import Subjects
from bus.telemetry.logging import logger
from bus.transport.connection import Connection
from bus.transport.parser import Message

log = logger(__name__)

#: A message counts as sent just now unless it is older than this many seconds by the bus's clock: then this process was
#: frozen when it arrived.
LATE_S: Final = 0.25
#: Accounts or jobs in one message.
_MAX_ENTRIES: Final = 250

_Count = Annotated[int, Meta(ge=0)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class AccountGrants(msgspec.Struct, frozen=True, array_like=True):
    """Requests that one gateway granted to one account."""

    account: str
    #: Since this gateway began to count; it starts at 0 again after the account was idle.
    num_grants: _Count
    #: Those of them that no earlier message reported.
    num_new: _Count
    #: Seconds that one request costs: 1 / the limit.
    cost_s: _Seconds
    #: Seconds since the first of the new ones was granted.
    first_s: _Seconds
    #: Seconds that the account is ahead of its limit, as the sender knows it; negative for an idle account.
    ahead_s: float


class AcceptedJob(msgspec.Struct, frozen=True, array_like=True):
    """A job that counts against a limit of its account."""

    account: Token
    tenant: Token
    job: Token
    #: Sequence of its message in JOBS; 0 while it is being queued.
    queue_seq: _Count
    #: Whether its seconds of audio are charged when it ends.
    is_charged: bool


class EndedJob(msgspec.Struct, frozen=True, array_like=True):
    """A job that counts no longer."""

    tenant: Token
    job: Token


class ReservedJob(msgspec.Struct, frozen=True, array_like=True):
    """A job that has room in the store reserved."""

    tenant: Token
    job: Token
    #: Sequence of its message in JOBS; 0 while it is being queued.
    queue_seq: _Count
    #: Most bytes of PCM that it makes.
    num_bytes: _Count


class AudioUsed(msgspec.Struct, frozen=True, array_like=True):
    """Milliseconds of audio charged to an account on a day (UTC, `2030-01-31`) so far."""

    account: Token
    day: Token
    ms: _Count


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Changes of the limits' use at one gateway, or its full state."""

    spent: list[AccountGrants] = []
    began: list[AcceptedJob] = []
    ended: list[EndedJob] = []
    used: list[AudioUsed] = []
    reserved: list[ReservedJob] = []
    #: Jobs whose room is free again.
    freed: list[EndedJob] = []


_NO_CHANGES: Final = Usage()


class UsageMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a gateway to all others."""

    #: The sender's `Gossip.id`.
    gateway: str
    #: Unix seconds at which it was sent, by the bus's clock.
    at: float
    #: Counts the messages of this gateway, from 1. A gap means that one was lost.
    seq: int
    #: Requests the full state of every gateway.
    hello: bool = False
    #: The sender stops.
    bye: bool = False
    #: `usage` is part of the full state: it has accounts without new grants too, of which `ahead_s` is to be taken.
    full: bool = False
    usage: Usage = _NO_CHANGES


class Source(Protocol):
    """The state of one gateway that is exchanged."""

    def take_changes(self, *, full: bool) -> Usage:
        """The changes since the last call; `full`: everything that this gateway knows of its own."""
        ...

    def merge(self, gateway: str, usage: Usage, *, late_s: float, full: bool) -> None:
        """Apply a report that another gateway sent `late_s` seconds ago; 0 for a message that came in time."""
        ...

    def gateway_left(self, gateway: str) -> None:
        """Another gateway stopped or is silent."""
        ...


class GossipTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds; shorter ones make tests quick."""

    #: Least time between two messages of one gateway.
    interval_s: float = 0.1
    #: A gateway without changes sends an empty message this often, so that the others can count the gateways.
    heartbeat_s: float = 1.0
    #: A gateway without a message for this long is counted no longer.
    silence_s: float = 3.5


TIMES: Final = GossipTimes()


class _Peer(msgspec.Struct):
    seq: int
    #: Loop time of its last message.
    seen_at: float


class Gossip:
    """One gateway's part in the exchange.

    Nothing waits for it. While NATS is unreachable nothing is sent, and the full state once it is back.
    """

    def __init__(
        self, connection: Connection, subjects: Subjects, now: Callable[[], float], times: GossipTimes = TIMES
    ) -> None:
        """`now`: Unix seconds by the bus's clock."""
        #: Names this process among the gateways; made at random at each start.
        self.id: Final = uuid.uuid4().hex[:12]
        self._connection = connection
        self._subjects = subjects
        self._now = now
        self._times = times
        self._source: Source | None = None
        self._peers: dict[str, _Peer] = {}
        self._seq = 0
        self._sent_at = float("-inf")
        self._hello_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._must_send_all = True
        self._must_send_hello = False

    @property
    def num_gateways(self) -> int:
        """This gateway and those that send; while the connection is down, as many as there were."""
        return len(self._peers) + 1

    def changed(self) -> None:
        """Send the changes at once, or when the last message is `interval_s` old."""
        if self._timer is None and self._source is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._sent_at + self._times.interval_s), self._send_changes)

    def _send_changes(self) -> None:
        self._timer = None
        if self._source is None or not self._connection.state.is_up:
            return  # the reconnect sends the full state
        self._sent_at = asyncio.get_running_loop().time()
        full = self._must_send_all
        self._must_send_all = False
        for part in _parts(self._source.take_changes(full=full)):
            self._send(usage=part, full=full)

    def _send(self, *, hello: bool = False, bye: bool = False, full: bool = False, usage: Usage = _NO_CHANGES) -> None:
        self._seq += 1
        message = UsageMessage(
            gateway=self.id, at=self._now(), seq=self._seq, hello=hello, bye=bye, full=full, usage=usage
        )
        self._connection.publish(self._subjects.gateway_usage(self.id), wire.encode(message))

    async def run(self, source: Source, on_heartbeat: Callable[[], None] = lambda: None) -> None:
        """Exchange the state of `source` until cancelled, then send `bye`. Calls `on_heartbeat` about once a second."""
        loop = asyncio.get_running_loop()
        self._source = source
        subscription = self._connection.subscribe(self._subjects.all_gateway_usage, self._received)
        self._connection.state.on_reconnect.add(self._reconnected)
        try:
            self._reconnected()
            while True:
                await asyncio.sleep(self._times.heartbeat_s)
                on_heartbeat()
                if not self._connection.state.is_up:
                    continue
                if self._must_send_hello:
                    self._send_hello()
                if loop.time() - self._sent_at >= self._times.heartbeat_s:
                    self._sent_at = loop.time()
                    self._send()
                for gateway, peer in list(self._peers.items()):
                    if loop.time() - peer.seen_at > self._times.silence_s:
                        self._remove(gateway, "silent")
        finally:
            self._source = None
            if self._timer is not None:
                self._timer.cancel()
            subscription.close()
            self._connection.state.on_reconnect.discard(self._reconnected)
            self._send(bye=True)

    def _reconnected(self) -> None:
        """Exchange full states: any number of messages were lost in both directions."""
        now = asyncio.get_running_loop().time()
        for peer in self._peers.values():
            peer.seen_at = now
        self._hello_at = float("-inf")
        self._send_hello()
        self._must_send_all = True
        self.changed()

    def _received(self, message: Message) -> None:
        try:
            found = wire.decode(UsageMessage, message.data)
        except Malformed as error:
            log.warning("usage.malformed", subject=message.subject, error=str(error))
            return
        gateway = found.gateway
        if gateway == self.id or self._source is None:
            return
        if found.bye:
            self._remove(gateway, "stopped")
            return
        peer = self._peers.get(gateway)
        if peer is None:
            log.info("usage.gateway_joined", gateway=gateway, gateways=self.num_gateways + 1)
        is_gap = peer is None or found.seq > peer.seq + 1
        self._peers[gateway] = _Peer(found.seq, asyncio.get_running_loop().time())
        if found.hello:
            self._must_send_all = True
            self.changed()
        if is_gap:
            self._send_hello()
        late_s = self._now() - found.at
        self._source.merge(gateway, found.usage, late_s=late_s if late_s > LATE_S else 0.0, full=found.full)

    def _send_hello(self) -> None:
        """Request the full states, now or once the last request is `heartbeat_s` old."""
        now = asyncio.get_running_loop().time()
        self._must_send_hello = now - self._hello_at < self._times.heartbeat_s
        if not self._must_send_hello:
            self._hello_at = now
            self._send(hello=True)

    def _remove(self, gateway: str, why: str) -> None:
        if self._peers.pop(gateway, None) is not None:
            log.info("usage.gateway_left", gateway=gateway, why=why, gateways=self.num_gateways)
            if self._source is not None:
                self._source.gateway_left(gateway)


def _parts(usage: Usage) -> list[Usage]:
    """`usage` in messages of bounded size; at least one, so that a `hello` is always answered."""
    lists: dict[str, list[Any]] = msgspec.structs.asdict(usage)
    longest = max(1, *(len(each) for each in lists.values()))
    return [
        Usage(**{name: each[start : start + _MAX_ENTRIES] for name, each in lists.items()})
        for start in range(0, longest, _MAX_ENTRIES)
    ]
