"""One job's stream between the host's read loop and the job's task: merging, order, interruption."""

import asyncio

import pytest

from gpuworker import pipe
from gpuworker.worker.entry_size import MAX_ENTRY_BYTES, EntrySize
from gpuworker.worker.stream import Audio, HandBack, Lost, Stream


def stream() -> tuple[Stream, list[tuple[int, int]]]:
    given: list[tuple[int, int]] = []
    return Stream(7, EntrySize(24_000, 2), lambda handle, size: given.append((handle, size))), given


async def piece(of: Stream) -> object:
    async with asyncio.timeout(20):
        return await of.next()


async def test_the_first_entry_is_the_first_block_alone_however_many_are_there() -> None:
    taken, _ = stream()
    for index in range(3):
        taken.on_audio(index * 10, bytes(20))
    assert await piece(taken) == Audio(0, bytes(20))


async def test_later_entries_hold_all_that_is_there_up_to_64_kib() -> None:
    taken, given = stream()
    taken.on_audio(0, bytes(2))
    first = await piece(taken)
    assert isinstance(first, Audio)
    taken.appended(first)
    assert given == [(7, 2)]
    for index in range(100):
        taken.on_audio(1 + 500 * index, bytes(1000))
    second = await piece(taken)
    assert isinstance(second, Audio)
    assert second.first_frame == 1
    assert MAX_ENTRY_BYTES - 1000 < len(second.pcm) <= MAX_ENTRY_BYTES


async def test_the_end_comes_after_all_audio_and_releases_what_was_held() -> None:
    taken, _ = stream()
    taken.on_audio(0, bytes(60 * 48_000))
    first = await piece(taken)
    assert isinstance(first, Audio)
    taken.appended(first)
    taken.on_audio(60 * 24_000, bytes(2))
    waiting = asyncio.create_task(piece(taken))
    await asyncio.sleep(0)
    assert not waiting.done(), "the listener is a minute ahead: more is gathered"
    taken.on_control(pipe.Done({}))
    assert await waiting == Audio(60 * 24_000, bytes(2))
    assert await piece(taken) == pipe.Done({})


async def test_an_interruption_ends_it_at_once_and_the_first_reason_stands() -> None:
    taken, _ = stream()
    waiting = asyncio.create_task(piece(taken))
    await asyncio.sleep(0)
    taken.interrupt(HandBack("draining"))
    taken.interrupt(Lost("too late"))
    with pytest.raises(HandBack, match="draining"):
        await waiting


async def test_silence_is_not_the_engines_while_the_bus_has_audio_to_take() -> None:
    taken, _ = stream()
    assert not taken.waits_for_bus
    taken.on_audio(0, bytes(2))
    assert taken.waits_for_bus
