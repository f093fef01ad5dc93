"""What gateways tell each other of the limits' use: core NATS, at most every 100 ms, at once after a silence.

A message tells what changed since the last one. Grants are told both as a sum and as what is new, so that a lost
message is made up for by the next one of the same account. Whoever is new says `hello` and is told everything.
"""

import asyncio
import uuid
from collections.abc import Callable
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from bus import wire
from bus.errors import Malformed
from bus.settings import Token
from bus.subjects import Subjects
from bus.telemetry.logging import logger
from bus.transport.clock import BusClock
from bus.transport.connection import Connection
from bus.transport.parser import Message

log = logger(__name__)

#: Between two messages of one gateway.
EVERY_S: Final = 0.1
#: … and at least so often, so that the others can count who is there.
BEAT_S: Final = 1.0
#: Without a message for so long a gateway is counted no more.
GONE_S: Final = 3.5
#: A message counts as said just now, unless the bus's clock says that it is older: then this process was frozen.
_LATE_S: Final = 0.25
#: Accounts or jobs in one message.
_PART: Final = 250


_Count = Annotated[int, Meta(ge=0)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """Requests that one gateway granted to one account."""

    account: str
    #: Since this gateway began to count; it begins anew after a pause.
    grants: _Count
    #: Of those, the ones that no message told before.
    more: _Count
    #: Seconds that one request costs: 1 / the limit.
    cost_s: _Seconds
    #: Seconds ago that the first of `more` was granted.
    first_s: _Seconds
    #: How far the account is ahead of its limit, in seconds, as the teller knows it.
    ahead_s: float


class Began(msgspec.Struct, frozen=True, array_like=True):
    """A job of an account whose jobs are counted."""

    account: Token
    tenant: Token
    job: Token
    #: Of its message in JOBS; 0 while it is being queued.
    queue_seq: _Count
    #: Whether its seconds are charged when it ends.
    is_charged: bool


class Ended(msgspec.Struct, frozen=True, array_like=True):
    tenant: Token
    job: Token


class Used(msgspec.Struct, frozen=True, array_like=True):
    """Audio of an account on a day so far."""

    account: Token
    day: Token
    ms: _Count


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """News of the limits' use."""

    spent: list[Spent] = []
    began: list[Began] = []
    ended: list[Ended] = []
    used: list[Used] = []

    @property
    def is_empty(self) -> bool:
        return not (self.spent or self.began or self.ended or self.used)


_NOTHING: Final = Usage()


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a gateway."""

    gateway: str
    #: Unix seconds, the bus's clock.
    at: float
    #: Counts the messages of this gateway, from 1.
    seq: int
    #: Whoever hears it tells everything.
    hello: bool = False
    #: The teller stops.
    bye: bool = False
    #: Part of everything: `more` is nothing new then, `ahead_s` is what counts.
    full: bool = False
    usage: Usage = Usage()


class Source(Protocol):
    """Whose news it is, and who hears those of others."""

    def news(self, *, everything: bool) -> Usage: ...

    def hear(self, gateway: str, usage: Usage, *, late_s: float, everything: bool) -> None: ...

    def gone(self, gateway: str) -> None: ...


class _Peer(msgspec.Struct):
    seq: int
    #: Loop time of its last message.
    heard_at: float


class Gossip:
    """One gateway's part. Nothing waits for it: without NATS nothing is told, and told once it is back."""

    def __init__(self, connection: Connection, subjects: Subjects, clock: BusClock) -> None:
        #: This process's name among the gateways; another one every time.
        self.me: Final = uuid.uuid4().hex[:12]
        self._connection, self._subjects, self._clock = connection, subjects, clock
        self._source: Source | None = None
        self._peers: dict[str, _Peer] = {}
        self._seq = 0
        self._told_at = self._asked_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._must_tell_all, self._must_ask = True, False

    # Who is there

    @property
    def num_gateways(self) -> int:
        """Those that are heard, and this one. While the connection is down: as many as there were."""
        return len(self._peers) + 1

    # Telling

    def changed(self) -> None:
        """There is news: tell it at once, or when the last message is `EVERY_S` ago."""
        if self._timer is None and self._source is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._told_at + EVERY_S), self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._source is None or not self._connection.state.is_up:
            return  # the reconnect tells everything
        self._told_at = asyncio.get_running_loop().time()
        everything, self._must_tell_all = self._must_tell_all, False
        for part in _parts(self._source.news(everything=everything)):
            self._say(usage=part, full=everything)

    def _say(self, *, hello: bool = False, bye: bool = False, full: bool = False, usage: Usage = _NOTHING) -> None:
        self._seq += 1
        told = Told(gateway=self.me, at=self._clock.now(), seq=self._seq, hello=hello, bye=bye, full=full, usage=usage)
        self._connection.publish(self._subjects.gateway_usage(self.me), wire.encode(told))

    async def run(self, source: Source, every: Callable[[], None] = lambda: None) -> None:
        """Tell and hear until cancelled; call `every` about once a second."""
        loop = asyncio.get_running_loop()
        self._source = source
        ears = self._connection.subscribe(self._subjects.all_gateway_usage, self._heard)
        off = self._connection.state.on_reconnect(self._came_back)
        try:
            self._came_back()
            while True:
                await asyncio.sleep(BEAT_S)
                every()
                if not self._connection.state.is_up:
                    continue
                if self._must_ask:
                    self._ask()
                if loop.time() - self._told_at >= BEAT_S:
                    self._told_at = loop.time()
                    self._say()
                for gateway, peer in list(self._peers.items()):
                    if loop.time() - peer.heard_at > GONE_S:
                        self._gone(gateway, "silent")
        finally:
            self._source = None
            if self._timer is not None:
                self._timer.cancel()
            ears.close()
            off()
            self._say(bye=True)

    def _came_back(self) -> None:
        """Nobody knows what was missed meanwhile, on either side."""
        now = asyncio.get_running_loop().time()
        for peer in self._peers.values():
            peer.heard_at = now
        self._asked_at = float("-inf")
        self._ask()
        self._must_tell_all = True
        self.changed()

    # Hearing

    def _heard(self, message: Message) -> None:
        try:
            told = wire.decode(Told, message.data)
        except Malformed as error:
            log.warning("usage.malformed", subject=message.subject, error=str(error))
            return
        gateway = told.gateway
        if gateway == self.me or self._source is None:
            return
        if told.bye:
            self._gone(gateway, "stopped")
            return
        peer = self._peers.get(gateway)
        if peer is None:
            log.info("usage.gateway_joined", gateway=gateway, gateways=self.num_gateways + 1)
        is_gap = peer is None or told.seq > peer.seq + 1
        self._peers[gateway] = _Peer(told.seq, asyncio.get_running_loop().time())
        if told.hello:
            self._must_tell_all = True
            self.changed()
        if is_gap:
            self._ask()
        late_s = self._clock.now() - told.at
        late_s = late_s if late_s > _LATE_S else 0.0
        self._source.hear(gateway, told.usage, late_s=late_s, everything=told.full)

    def _ask(self) -> None:
        """Something was missed: ask to be told everything, now or when the last question is a second old."""
        now = asyncio.get_running_loop().time()
        self._must_ask = now - self._asked_at < BEAT_S
        if not self._must_ask:
            self._asked_at = now
            self._say(hello=True)

    def _gone(self, gateway: str, why: str) -> None:
        if self._peers.pop(gateway, None) is not None:
            log.info("usage.gateway_left", gateway=gateway, why=why, gateways=self.num_gateways)
            if self._source is not None:
                self._source.gone(gateway)


def _parts(usage: Usage) -> list[Usage]:
    """`usage` in messages of a bounded size; at least one, so that a newcomer hears something."""
    longest = max(len(usage.spent), len(usage.began), len(usage.ended), len(usage.used), 1)
    return [
        Usage(
            spent=usage.spent[start : start + _PART],
            began=usage.began[start : start + _PART],
            ended=usage.ended[start : start + _PART],
            used=usage.used[start : start + _PART],
        )
        for start in range(0, longest, _PART)
    ]
