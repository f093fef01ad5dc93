"""One job's stream between the host's read loop and the job's task: merging, order, interruption."""

import asyncio

import pytest

from gpuworker import pipe
from gpuworker.worker.entry_size import MAX_ENTRY_BYTES, EntrySize
from gpuworker.worker.stream import Audio, EngineLost, HandBack, Stream


def new_stream() -> tuple[Stream, list[tuple[int, int]]]:
    """A stream and the credit that it sends, as (handle, bytes)."""
    credit: list[tuple[int, int]] = []
    return Stream(7, EntrySize(24_000, 2), lambda handle, size: credit.append((handle, size))), credit


async def next_piece(stream: Stream) -> object:
    async with asyncio.timeout(20):
        return await stream.next()


async def next_audio(stream: Stream) -> Audio:
    piece = await next_piece(stream)
    assert isinstance(piece, Audio)
    return piece


async def test_the_first_entry_is_the_first_block_alone_however_many_are_there() -> None:
    stream, _ = new_stream()
    for index in range(3):
        stream.on_audio(index * 10, bytes(20))
    assert await next_piece(stream) == Audio(0, bytes(20))


async def test_later_entries_hold_all_that_is_there_up_to_64_kib() -> None:
    stream, credit = new_stream()
    stream.on_audio(0, bytes(2))
    stream.appended(await next_audio(stream))
    assert credit == [(7, 2)]
    for index in range(100):
        stream.on_audio(1 + 500 * index, bytes(1000))
    second = await next_audio(stream)
    assert second.first_frame == 1
    assert MAX_ENTRY_BYTES - 1000 < len(second.pcm) <= MAX_ENTRY_BYTES


async def test_the_end_comes_after_all_audio_and_releases_the_audio_held_back() -> None:
    stream, _ = new_stream()
    stream.on_audio(0, bytes(60 * 48_000))
    stream.appended(await next_audio(stream))
    stream.on_audio(60 * 24_000, bytes(2))
    waiting = asyncio.create_task(next_piece(stream))
    await asyncio.sleep(0)
    assert not waiting.done(), "the listener is a minute ahead: more is gathered"
    stream.on_control(pipe.Done({}))
    assert await waiting == Audio(60 * 24_000, bytes(2))
    assert await next_piece(stream) == pipe.Done({})


async def test_an_engine_that_is_done_gets_no_credit() -> None:
    stream, credit = new_stream()
    stream.on_audio(0, bytes(20))
    stream.on_audio(10, bytes(40))
    stream.appended(await next_audio(stream))
    stream.on_control(pipe.Done({}))
    stream.appended(await next_audio(stream))
    assert credit == [(7, 20)]


async def test_an_interruption_ends_it_at_once_and_the_first_reason_stands() -> None:
    stream, _ = new_stream()
    waiting = asyncio.create_task(next_piece(stream))
    await asyncio.sleep(0)
    stream.interrupt(HandBack("draining"))
    stream.interrupt(EngineLost("too late"))
    with pytest.raises(HandBack, match="draining"):
        await waiting


async def test_silence_is_not_the_engines_while_the_bus_has_audio_to_take() -> None:
    stream, _ = new_stream()
    await asyncio.sleep(0.002)
    assert stream.silent_s > 0
    stream.on_audio(0, bytes(2))
    await asyncio.sleep(0.002)
    assert stream.silent_s == 0


async def test_silence_counts_from_the_end_of_a_standstill() -> None:
    stream, _ = new_stream()
    await asyncio.sleep(0.05)
    before_s = stream.silent_s
    stream.restart_silence()
    assert stream.silent_s < before_s
