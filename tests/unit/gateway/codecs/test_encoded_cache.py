"""What was encoded is kept while there is room, and made once for all who want it together."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from gateway.codecs.encoded_cache import Renderings


class Maker:
    """Makes `data` once it may; counts how often it began and how often it was given up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.may = data, asyncio.Event()
        self.began = self.dropped = 0
        self.begun = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> AsyncGenerator[bytes]:
        self.began += 1
        self.begun.set()
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        if self.error is not None:
            raise self.error
        yield self.data[:1]
        yield self.data[1:]


async def test_many_who_ask_together_wait_for_one_making() -> None:
    renderings, make = Renderings(100), Maker(b"abc")
    asking = [asyncio.create_task(renderings.get("k", make)) for _ in range(5)]
    await make.begun.wait()
    make.may.set()
    assert [found.data for found in await asyncio.gather(*asking)] == [b"abc"] * 5
    assert (await renderings.get("k", make)).data == b"abc"
    assert make.began == 1


async def test_one_that_leaves_in_the_middle_leaves_the_making_to_the_next() -> None:
    renderings, make = Renderings(100), Maker(b"abc")
    first, second = [asyncio.create_task(renderings.get("k", make)) for _ in range(2)]
    await make.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    make.may.set()
    assert (await second).data == b"abc"
    assert (make.began, make.dropped) == (2, 1)


async def test_a_making_that_fails_is_tried_again_by_who_asks_next() -> None:
    renderings, make = Renderings(100), Maker(b"abc")
    make.may.set()
    make.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await renderings.get("k", make)
    make.error = None
    assert (await renderings.get("k", make)).data == b"abc"


async def test_what_was_not_asked_for_longest_makes_room() -> None:
    renderings = Renderings(10)
    for key in ("a", "b"):
        renderings.keep(key, bytes(4))
    assert renderings.kept("a") is not None
    renderings.keep("c", bytes(4))
    assert [renderings.kept(key) is not None for key in ("a", "b", "c")] == [True, False, True]
    renderings.keep("c", bytes(5))  # in its own place
    assert renderings.kept("a") is not None
    assert renderings.keep("d", bytes(11)).data == bytes(11)
    assert [key for key in ("a", "c", "d") if renderings.kept(key)] == []
    renderings.keep("e", bytes(10))
    assert renderings.kept("e") is not None


async def test_equal_bytes_have_equal_tags_and_others_have_others() -> None:
    renderings = Renderings(100)
    tags = [renderings.keep(key, data).etag for key, data in (("a", b"x"), ("b", b"x"), ("c", b"y"))]
    assert tags[0] == tags[1] != tags[2]
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


async def test_only_a_few_are_made_at_a_time() -> None:
    renderings, makers = Renderings(100), [Maker(bytes([each])) for each in range(7)]
    asking = [asyncio.create_task(renderings.get(index, make)) for index, make in enumerate(makers)]
    await makers[3].begun.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sum(make.began for make in makers) == 4
    for make in makers:
        make.may.set()
    assert [found.data[0] for found in await asyncio.gather(*asking)] == list(range(7))


def test_what_is_streamed_is_collected_by_one() -> None:
    renderings = Renderings(100)
    with contextlib.ExitStack() as streams:
        collected = [streams.enter_context(renderings.collecting(key)) for key in ("a", "a", "b")]
        assert collected == [True, False, True]
    with renderings.collecting("a") as is_collected:
        assert is_collected


def test_what_is_being_read_keeps_its_room_until_its_last_reader_goes() -> None:
    renderings = Renderings(10)
    read = renderings.keep("read", bytes(6))
    with contextlib.ExitStack() as readers:
        readers.enter_context(renderings.lent(read))
        readers.enter_context(renderings.lent(read))
        assert (renderings.may_lend(4), renderings.may_lend(5)) == (True, False)
        renderings.keep("idle", bytes(4))
        renderings.keep("newer", bytes(3))
        assert [key for key in ("read", "idle", "newer") if renderings.kept(key)] == ["read", "newer"]
        renderings.keep("large", bytes(5))
        assert [key for key in ("read", "newer", "large") if renderings.kept(key)] == ["read"]
    assert renderings.may_lend(10)
    renderings.keep("large", bytes(10))
    assert [key for key in ("read", "large") if renderings.kept(key)] == ["large"]
