"""Records of installed voices on a real server."""

import asyncio

import msgspec
import pytest

from bus.blobs.voices import InstalledVoice, VoiceRecords, listed
from bus.errors import NotFound
from bus.fleet.messages import Voice
from bus.jobs.client import Bus
from tests.support.blobs import becomes


def voice(sha256: str = "a" * 64, at: float = 1.0, name: str = "joe") -> InstalledVoice:
    return InstalledVoice(
        model="piper",
        name=name,
        sha256=sha256,
        files={f"{name}.onnx": "0" * 64},
        num_bytes=7,
        rate_hz=22_050,
        voices=[Voice(id=name, name="Joe", language="en-US", sha256=sha256)],
        installed_at=at,
    )


async def names(records: VoiceRecords) -> list[tuple[str, str]]:
    return [(each.name, each.sha256) for each in listed(await records.all())]


async def test_a_voice_is_listed_replaced_removed_and_installed_again(bus: Bus) -> None:
    records, old, new = VoiceRecords(bus), voice(), voice("b" * 64, at=2.0)
    assert await names(records) == []
    with pytest.raises(NotFound, match="'joe' of piper"):
        await records.remove("piper", "joe")
    assert await records.install(old)
    assert not await records.install(msgspec.structs.replace(old, installed_at=1.5))
    assert await names(records) == [("joe", old.sha256)]
    assert await records.install(new)
    assert await names(records) == [("joe", new.sha256)]
    assert [bool(each.removed_at) for each in await records.all()] == [True, False]
    assert [each.sha256 for each in await records.remove("piper", "joe")] == [new.sha256]
    assert await names(records) == []
    assert await records.files() == {"0" * 64}, "a job may still name it"
    assert await records.install(msgspec.structs.replace(old, installed_at=3.0))
    assert await names(records) == [("joe", old.sha256)]


async def test_installs_of_one_voice_at_once_are_one_voice(bus: Bus) -> None:
    outcomes = await asyncio.gather(*(VoiceRecords(bus).install(voice()) for _ in range(8)))
    assert sorted(outcomes) == [False] * 7 + [True]
    assert len(await VoiceRecords(bus).all()) == 1


async def test_of_two_voices_of_one_name_at_once_one_is_listed(bus: Bus) -> None:
    await asyncio.gather(*(VoiceRecords(bus).install(voice(char * 64, at=at)) for at, char in enumerate("abc")))
    assert await names(VoiceRecords(bus)) == [("joe", "c" * 64)]


async def test_a_watcher_sees_each_change(bus: Bus) -> None:
    records, seen = VoiceRecords(bus), []

    def note(found: list[InstalledVoice]) -> None:
        seen.append([each.name for each in listed(found)])

    async def last() -> list[str]:
        return seen[-1] if seen else ["none yet"]

    watching = asyncio.create_task(records.watch(note))
    try:
        await becomes(last, [])
        await bus.topology.declare_bucket("voices")
        await records.install(voice())
        await becomes(last, ["joe"])
        await records.remove("piper", "joe")
        await becomes(last, [])
    finally:
        watching.cancel()
