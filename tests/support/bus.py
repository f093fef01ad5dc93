"""A worker and a listener by hand: one step of the protocol at a time."""

import asyncio
import secrets
from typing import Any

import msgspec

from bus import wire
from bus.errors import NoResponders
from bus.jobs.attach import Attachment
from bus.jobs.attempts import AttemptLimits
from bus.jobs.claim import Claim, Claims, Identity
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.jobs.log import Writer
from bus.jobs.submit import submit
from bus.subjects import JobKey
from bus.transport.connection import Connection
from bus.transport.parser import Message
from bus.transport.pull import Delivery
from bus.transport.stream_configs import PRIORITY_GROUP

_PATIENCE_S = 10.0


def key_of(bus: Bus, job: wire.Job) -> JobKey:
    return bus.subjects.job_key(job.tenant, job.id)


async def pull(bus: Bus, consumer: str = "tone=v1=interactive", within_s: float = 20.0) -> Delivery:
    """The next delivery of a consumer, which must be declared. Raises TimeoutError."""
    arrived: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def on(message: Message) -> None:
        if message.status is None and not arrived.done():
            arrived.set_result(message)

    inbox = f"_INBOX_test.{secrets.token_hex(8)}"
    subscription = bus.connection.subscribe(inbox, on)
    try:
        body = msgspec.json.encode({"batch": 1, "expires": int(within_s * 1e9), "group": PRIORITY_GROUP})
        bus.connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.{bus.subjects.jobs_stream}.{consumer}", body, reply=inbox)
        return Delivery(bus.connection, await asyncio.wait_for(arrived, within_s))
    finally:
        subscription.close()


def claims(bus: Bus, worker: str = "w1", boot: str = "b1", max_attempts: int = 3) -> Claims:
    return Claims(bus.logs, bus.clock, Identity(worker, boot), AttemptLimits(max_attempts))


async def take_delivery(bus: Bus, worker: str = "w1", max_attempts: int = 3) -> tuple[Delivery, Claim | None]:
    """Pull and claim as `worker`."""
    delivery = await pull(bus)
    by = claims(bus, worker, max_attempts=max_attempts)
    return delivery, await by.claim(delivery, by.open(delivery))


async def start(bus: Bus, job: wire.Job, worker: str = "w1") -> tuple[Delivery, Claim, Writer]:
    """Submit `job` and have `worker` claim it."""
    await bus.topology.declare_consumers(job.model, job.version)
    await submit(bus, job)
    delivery, claim = await take_delivery(bus, worker)
    assert claim is not None
    return delivery, claim, writer(bus, claim)


def writer(bus: Bus, claim: Claim, patience_s: float = _PATIENCE_S) -> Writer:
    started = wire.Started(
        media=wire.media_type(24_000, 1),
        worker=claim.lease.worker,
        attempt=claim.lease.attempt,
        model=claim.job.model,
        version=claim.job.version,
    )
    return Writer(bus.logs, claim.key, claim.lease_seq, claim.lease, claim.position, started, patience_s)


def done(by: Writer) -> wire.Done:
    position = by.position
    return wire.Done(
        blocks=position.block, frames=position.frame, seconds=position.frame / 24_000, crc32=f"{position.crc32:08x}"
    )


def pcm(block: int, frames: int = 10) -> bytes:
    """A block that differs from its neighbours."""
    return b"".join((block * frames + k).to_bytes(2, "little") for k in range(frames))


async def write(by: Writer, blocks: int, frames: int = 10) -> None:
    for _ in range(blocks):
        await by.block(pcm(by.position.block, frames), frames)


async def entries(bus: Bus, key: JobKey) -> list[Entry]:
    """The whole log as stored."""
    found: list[Entry] = []
    pending = 1
    while pending:
        after = found[-1].seq + 1 if found else 1
        page, pending = await bus.js.direct.page(bus.subjects.replies_stream, key.entries, after)
        found += [Entry.stored(stored) for stored in page]
    return found


def kinds(log: list[Entry]) -> list[str]:
    return [entry.kind for entry in log]


async def follow(bus: Bus, key: JobKey, after_seq: int = 0, within_s: float = 20.0, **options: float) -> list[Entry]:
    """Attach with these options of `Attachment`, and listen to the end."""
    received: list[Entry] = []
    async with (
        asyncio.timeout(within_s),
        Attachment(bus.connection, bus.logs, key, after_seq=after_seq, **options) as attachment,
    ):
        async for batch in attachment:
            received += batch
    return received


async def num_jobs(bus: Bus) -> int:
    """Messages in JOBS."""
    return int((await bus.js.info(bus.subjects.jobs_stream))["state"]["messages"])


async def until(condition, within_s: float = 20.0) -> None:
    """Return once the coroutine function `condition` gives something true. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.01)


def client_of(connection: Connection) -> Any:
    """nats-py's client of a connection."""
    return connection._link._client  # type: ignore[attr-defined]


def hold_reconnect(connection: Connection) -> asyncio.Event:
    """Keep a connection that is lost from coming back until the returned event is set."""
    client, may_return = client_of(connection), asyncio.Event()
    reconnect = client._attempt_reconnect

    async def late() -> None:
        await may_return.wait()
        await reconnect()

    client._attempt_reconnect = late
    return may_return


def write_raw(connection: Connection, data: bytes) -> None:
    """Write bytes to the server, past every check of ours."""
    client_of(connection)._transport.write(data)


def socket_of(connection: Connection) -> Any:
    """The socket to the server."""
    return client_of(connection)._transport._io_writer.get_extra_info("socket")


def footprint(connection: Connection) -> tuple[int, int, int, int]:
    """Counts of the objects that a connection keeps for its users; equal before and after a use that leaks nothing."""
    return (
        len(client_of(connection)._subs),
        len(connection._link._callbacks),  # type: ignore[attr-defined]
        connection.replies.num_waiting,
        len(connection.state.on_reconnect),
    )


async def answers_pings(bus: Bus, worker: str) -> bool:
    """Whether a worker of this id answers a ping."""
    try:
        await bus.connection.request(bus.subjects.ping(worker))
    except NoResponders:
        return False
    return True
