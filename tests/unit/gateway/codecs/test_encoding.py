"""Encoders work in threads of a pool, at most one thread each, and are released once no thread uses them."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway.codecs import Encoding, Format, encoding, libav
from tests.support.codecs import Tenant, voice_like

MP3 = Format("mp3")


class Gated:
    """A stage that signals when a thread is in it, and holds the thread until `leave` is set."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.closed = threading.Event()
        self.inside = self.threads_at_close = 0

    def feed(self, data: bytes) -> bytes:
        self.inside += 1
        self.entered.set()
        assert self.leave.wait(60)
        self.inside -= 1
        return data

    def finish(self) -> bytes:
        return b"end"

    def close(self) -> None:
        self.threads_at_close = self.inside
        self.closed.set()


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    stage = Gated()
    monkeypatch.setattr(encoding, "_stages", lambda *_: [stage])
    yield stage
    stage.leave.set()


async def entered(stage: Gated) -> None:
    assert await asyncio.to_thread(stage.entered.wait, 30)


async def test_the_loop_goes_on_while_an_encoder_works(gated: Gated) -> None:
    encoder = Encoding(MP3, 24_000, 1, caller=Tenant("tenant-a"), tag="")
    feeding = asyncio.create_task(encoder.feed(b"ab"))
    await entered(gated)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not feeding.done()
    gated.leave.set()
    assert await feeding == b"ab"
    assert await encoder.finish() == b"end"


async def test_a_cancelled_feed_does_not_release_the_encoder_under_its_thread(gated: Gated) -> None:
    encoder = Encoding(MP3, 24_000, 1, caller=Tenant("tenant-a"), tag="")
    feeding = asyncio.create_task(encoder.feed(b"ab"))
    await entered(gated)
    feeding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await feeding
    encoder.close()
    assert not gated.closed.is_set()
    gated.leave.set()
    assert await asyncio.to_thread(gated.closed.wait, 30)
    assert gated.threads_at_close == 0
    encoder.close()


async def test_an_encoder_never_has_two_threads(gated: Gated) -> None:
    encoder = Encoding(MP3, 24_000, 1, caller=Tenant("tenant-a"), tag="")
    feeding = asyncio.create_task(encoder.feed(b"ab"))
    await entered(gated)
    with pytest.raises(RuntimeError, match="one task at a time"):
        await encoder.feed(b"cd")
    feeding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await feeding
    with pytest.raises(RuntimeError, match="one task at a time"):
        await encoder.finish()
    gated.leave.set()
    encoder.close()
    assert await asyncio.to_thread(gated.closed.wait, 30)
    with pytest.raises(RuntimeError, match="closed"):
        await encoder.feed(b"ef")


async def test_an_encoding_that_is_closed_while_it_waits_for_a_thread_never_gets_one(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [Encoding(MP3, 24_000, 1, caller=Tenant("tenant-a"), tag="") for _ in range(encoding.NUM_THREADS)]
    feeding = [asyncio.create_task(each.feed(b"ab")) for each in busy]
    await entered(gated)
    async with asyncio.timeout(30):
        while gated.inside < len(busy):
            await asyncio.sleep(0)
    second = Gated()
    monkeypatch.setattr(encoding, "_stages", lambda *_: [second])
    waiting = Encoding(MP3, 24_000, 1, caller=Tenant("tenant-a"), tag="")
    late = asyncio.create_task(waiting.feed(b"cd"))
    await asyncio.sleep(0)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    waiting.close()
    gated.leave.set()
    assert await asyncio.gather(*feeding) == [b"ab"] * len(busy)
    assert not second.entered.is_set()


async def test_an_owner_without_a_thread_gets_the_next_one_that_is_free(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[str] = []

    def feed(self: Encoding, pcm: bytes) -> bytes:
        served.append(self._caller.owner)
        return gated.feed(pcm)

    monkeypatch.setattr(Encoding, "_feed", feed)
    flood = [
        asyncio.create_task(Encoding(MP3, 24_000, 1, caller=Tenant("tenant-a"), tag="").feed(b"ab")) for _ in range(20)
    ]
    await entered(gated)
    victim = asyncio.create_task(Encoding(MP3, 24_000, 1, caller=Tenant("tenant-b"), tag="").feed(b"cd"))
    await asyncio.sleep(0)
    gated.leave.set()
    assert await victim == b"cd"
    await asyncio.gather(*flood)
    assert served.index("tenant-b") <= encoding.NUM_THREADS


async def test_a_thread_is_free_once_it_has_ended_not_once_its_feed_is_cancelled(gated: Gated) -> None:
    flood = [
        asyncio.create_task(Encoding(MP3, 24_000, 1, caller=Tenant("tenant-a"), tag="").feed(b"ab")) for _ in range(20)
    ]
    await entered(gated)
    waiting = encoding._POOL._work_queue
    async with asyncio.timeout(30):
        while waiting.qsize():  # until each thread has taken what is its own
            await asyncio.sleep(0.001)
    for task in flood[: encoding.NUM_THREADS]:
        task.cancel()
    await asyncio.wait(flood[: encoding.NUM_THREADS])
    for _ in range(10):
        await asyncio.sleep(0)
    assert waiting.qsize() == 0  # nothing waits in the executor, where it would be first come
    gated.leave.set()
    assert await asyncio.gather(*flood[encoding.NUM_THREADS :]) == [b"ab"] * (20 - encoding.NUM_THREADS)


@pytest.mark.parametrize(
    "form", [*(Format(name) for name in ("mp3", "opus", "aac", "flac", "ulaw")), Format("wav", speed=2.0)], ids=str
)
async def test_every_encoder_works_in_the_pool(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    for kind in (libav.Converter, libav.Encoder):
        for name in ("__init__", "feed", "finish"):

            def recorded(*arguments: object, _was: object = getattr(kind, name)) -> object:
                threads.add(threading.current_thread().name.partition("_")[0])
                assert callable(_was)
                return _was(*arguments)

            monkeypatch.setattr(kind, name, recorded)
    encoder = Encoding(form, 24_000, 1, caller=Tenant("tenant-a"), tag="")
    # More than one slice: other streams are encoded in between.
    await encoder.feed(voice_like(3.0, 24_000).tobytes())
    await encoder.finish()
    encoder.close()
    assert threads == {"encoder"}


async def test_a_long_piece_is_encoded_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    feed = libav.Encoder.feed

    def recorded(self: libav.Encoder, pcm: bytes) -> bytes:
        sizes.append(len(pcm))
        return feed(self, pcm)

    monkeypatch.setattr(libav.Encoder, "feed", recorded)
    encoder = Encoding(Format("flac"), 24_000, 1, caller=Tenant("tenant-a"), tag="")
    await encoder.feed(bytes(500_001 * 2))
    assert max(sizes) <= 64 << 10
    assert sum(sizes) == 500_001 * 2
    await encoder.finish()
    encoder.close()


@pytest.mark.parametrize("codec", ["pcm", "wav"])
async def test_a_plain_format_uses_no_thread(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_POOL", None)
    plain = Encoding(Format(codec), 24_000, 1, caller=Tenant("tenant-a"), tag="")
    assert (await plain.feed(b"ab") + await plain.finish())[-2:] == b"ab"
    plain.close()
