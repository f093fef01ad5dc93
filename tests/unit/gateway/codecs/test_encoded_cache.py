"""Encoded bodies in memory: bounded, and encoded once for concurrent requests."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from gateway.codecs.encoded_cache import EncodedCache


class Encoder:
    """Encodes `data` once it may; counts how often it began and how often it was cancelled."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.may = asyncio.Event()
        self.began = self.num_cancelled = 0
        self.begun = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> AsyncGenerator[bytes]:
        self.began += 1
        self.begun.set()
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        yield self.data[:1]
        yield self.data[1:]


async def test_concurrent_requests_share_one_encoding() -> None:
    cache, encode = EncodedCache(100, 1.0), Encoder(b"abc")
    requests = [asyncio.create_task(cache.get_or_encode("k", encode, "tenant-a")) for _ in range(5)]
    await encode.begun.wait()
    encode.may.set()
    assert [found.data for found in await asyncio.gather(*requests)] == [b"abc"] * 5
    assert (await cache.get_or_encode("k", encode, "tenant-a")).data == b"abc"
    assert encode.began == 1


async def test_a_cancelled_request_leaves_the_encoding_to_the_next() -> None:
    cache, encode = EncodedCache(100, 1.0), Encoder(b"abc")
    first, second = [asyncio.create_task(cache.get_or_encode("k", encode, "tenant-a")) for _ in range(2)]
    await encode.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    encode.may.set()
    assert (await second).data == b"abc"
    assert (encode.began, encode.num_cancelled) == (2, 1)


async def test_an_encoding_that_fails_is_tried_again_by_the_next_request() -> None:
    cache, encode = EncodedCache(100, 1.0), Encoder(b"abc")
    encode.may.set()
    encode.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await cache.get_or_encode("k", encode, "tenant-a")
    encode.error = None
    assert (await cache.get_or_encode("k", encode, "tenant-a")).data == b"abc"


async def test_the_least_recently_used_body_is_dropped() -> None:
    cache = EncodedCache(10, 1.0)
    for key in ("a", "b"):
        cache.put(key, bytes(4))
    assert cache.get("a") is not None
    cache.put("c", bytes(4))
    assert [cache.get(key) is not None for key in ("a", "b", "c")] == [True, False, True]
    cache.put("c", bytes(5))  # in its own place
    assert cache.get("a") is not None
    assert cache.put("d", bytes(11)).data == bytes(11)
    assert [key for key in ("a", "c", "d") if cache.get(key)] == []
    cache.put("e", bytes(10))
    assert cache.get("e") is not None


async def test_equal_bytes_have_equal_tags_and_others_have_others() -> None:
    cache = EncodedCache(100, 1.0)
    tags = [cache.put(key, data).etag for key, data in (("a", b"x"), ("b", b"x"), ("c", b"y"))]
    assert tags[0] == tags[1] != tags[2]
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


async def test_only_a_few_encodings_run_at_a_time() -> None:
    cache, encoders = EncodedCache(100, 1.0), [Encoder(bytes([each])) for each in range(7)]
    requests = [
        asyncio.create_task(cache.get_or_encode(index, encode, "tenant-a")) for index, encode in enumerate(encoders)
    ]
    await encoders[3].begun.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sum(encode.began for encode in encoders) == 4
    for encode in encoders:
        encode.may.set()
    assert [found.data[0] for found in await asyncio.gather(*requests)] == list(range(7))


def test_one_of_concurrent_responses_writes_a_body() -> None:
    cache = EncodedCache(100, 1.0)
    with contextlib.ExitStack() as streams:
        claimed = [streams.enter_context(cache.claim(key)) for key in ("a", "a", "b")]
        assert claimed == [True, False, True]
    with cache.claim("a") as is_claimed:
        assert is_claimed


def test_a_body_that_is_being_sent_is_kept_until_its_last_response_ends() -> None:
    cache = EncodedCache(10, 1.0)
    read = cache.put("read", bytes(6))
    with contextlib.ExitStack() as readers:
        readers.enter_context(cache.sending(read))
        readers.enter_context(cache.sending(read))
        assert (cache.may_send(4), cache.may_send(5)) == (True, False)
        cache.put("idle", bytes(4))
        cache.put("newer", bytes(3))
        assert [key for key in ("read", "idle", "newer") if cache.get(key)] == ["read", "newer"]
        cache.put("large", bytes(5))
        assert [key for key in ("read", "newer", "large") if cache.get(key)] == ["read"]
    assert cache.may_send(10)
    cache.put("large", bytes(10))
    assert [key for key in ("read", "large") if cache.get(key)] == ["large"]


def test_bodies_that_are_written_share_half_the_size_of_the_cache() -> None:
    cache = EncodedCache(10, 1.0)
    with cache.writer() as first:
        first.add(b"abc")
        with cache.writer() as second:
            second.add(b"defg")
            second.save("second")
        first.add(b"h")
        first.save("first")
    found = cache.get("first")
    assert found is not None
    assert found.data == b"abch"
    assert cache.get("second") is None, "5 bytes were left, and 7 needed"
