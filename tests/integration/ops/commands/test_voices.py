"""`antiphon voices`: what is installed is whole and right, or nothing is."""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bus.blobs.store import BlobStore
from bus.blobs.voices import VoiceRecords, listed
from bus.jobs.client import Bus
from bus.voices import files_digest
from ops.commands.voice_source import Download
from ops.errors import OpsError
from tests.support import piper_voice
from tests.support.commands import json_of, on_bus
from tests.support.forked import Process
from tests.support.voice_server import BREAK_BYTES, VoiceServer, voice_server
from tests.support.waiting import eventually

NAME = "en_US-random-low"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a voice and its licence."""
    piper_voice.write(tmp_path / "voices", NAME)
    (tmp_path / "voices" / "MODEL_CARD").write_text("Made of noise. Licence: CC0-1.0\n")
    return tmp_path / "voices"


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[VoiceServer]:
    async with voice_server(folder) as serving:
        yield serving


def digest_of(folder: Path) -> str:
    files = (f"{NAME}.onnx", f"{NAME}.onnx.json")
    return files_digest({name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files})


async def installed(bus: Bus) -> list[str]:
    return [each.name for each in listed(await VoiceRecords(bus).all())]


async def test_a_voice_is_installed_from_a_folder_listed_and_removed(bus: Bus, folder: Path) -> None:
    assert await json_of(bus, "voices", "list") == {"voices": []}
    asked = await on_bus(bus, "voices", "install", NAME, "--from", str(folder))
    assert (asked.returncode, await installed(bus)) == (2, [])
    assert "CC0-1.0" in asked.stderr
    assert "--yes" in asked.stderr
    shown = await json_of(bus, "voices", "install", NAME, "--from", str(folder), "--yes")
    assert (shown["name"], shown["rate_hz"], shown["sha256"]) == (NAME, 22_050, digest_of(folder))
    assert shown["is_new"]
    assert [each["name"] for each in (await json_of(bus, "voices", "list"))["voices"]] == [NAME]
    again = await json_of(bus, "voices", "install", NAME, "--from", str(folder), "--yes")
    assert not again["is_new"]
    await json_of(bus, "voices", "remove", NAME)
    assert await installed(bus) == []
    missing = await on_bus(bus, "voices", "remove", NAME)
    assert (missing.returncode, NAME in missing.stderr) == (1, True)


def spoil_json(folder: Path) -> None:
    (folder / f"{NAME}.onnx.json").unlink()


def spoil_rate(folder: Path) -> None:
    piper_voice.write(folder, NAME, rate_hz=7_000)


def cut(folder: Path) -> None:
    path = folder / f"{NAME}.onnx"
    path.write_bytes(path.read_bytes()[:-500])


def replace(folder: Path) -> None:
    (folder / f"{NAME}.onnx").write_bytes(b"<html>404</html>")


def grow(folder: Path) -> None:
    with (folder / f"{NAME}.onnx").open("ab") as file:
        file.truncate(10 << 30)  # a sparse file


def lose(folder: Path) -> None:
    (folder / f"{NAME}.onnx").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_json, f"{NAME}.onnx.json is missing"),
        (spoil_rate, "audio.sample_rate is 7000"),
        (cut, f"{NAME}.onnx is not a whole ONNX file"),
        (replace, f"{NAME}.onnx is not a whole ONNX file"),
        (grow, f"{NAME}.onnx has 10737418240 bytes"),
        (lose, f"has no {NAME}.onnx"),
    ],
)
async def test_a_voice_that_is_none_is_refused_by_its_file(bus: Bus, folder: Path, spoil: Any, says: str) -> None:
    spoil(folder)
    done = await on_bus(bus, "voices", "install", NAME, "--from", str(folder), "--yes")
    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert await installed(bus) == []
    assert await BlobStore(bus).num_chunks() == {}


class FromServer(NamedTuple):
    """Installs from a server."""

    bus: Bus
    server: VoiceServer
    cache: Path

    async def install(self, sha256: str) -> Any:
        flags = ("--from", self.server.url, "--sha256", sha256, "--cache", str(self.cache), "--yes")
        return await on_bus(self.bus, "voices", "install", NAME, *flags)


@pytest.fixture
def remote(bus: Bus, server: VoiceServer, tmp_path: Path) -> FromServer:
    return FromServer(bus, server, tmp_path / "cache")


async def test_a_download_that_breaks_off_is_continued(remote: FromServer, folder: Path) -> None:
    sha256 = digest_of(folder)
    remote.server.breaks = True
    broken = await remote.install(sha256)
    assert broken.returncode == 1
    assert "run the command again" in broken.stderr
    assert await installed(remote.bus) == []
    done = await remote.install(sha256)
    assert done.returncode == 0, done.stderr
    assert (f"{NAME}.onnx", BREAK_BYTES) in remote.server.requests
    assert [each.sha256 for each in await VoiceRecords(remote.bus).all()] == [sha256]
    assert [path.name for path in remote.cache.iterdir() if path.is_dir()] == []


async def test_an_install_that_is_killed_is_continued(remote: FromServer, folder: Path, tmp_path: Path) -> None:
    sha256 = digest_of(folder)
    remote.server.hangs = True
    printed = tmp_path / "printed"
    printed.touch()
    bus = remote.bus.settings
    flags = ("--sha256", sha256, "--cache", str(remote.cache), "--yes", "--nats", bus.nats, "--root", bus.root)
    command = ("voices", "install", NAME, "--from", remote.server.url, *flags)
    killed = Process(command, dict(os.environ), str(printed), str(printed))
    try:
        await eventually(lambda: BREAK_BYTES in {path.stat().st_size for path in remote.cache.rglob("*.part")})
    finally:
        killed.kill()
        await asyncio.to_thread(killed.wait, 30)
        killed.close()
    assert await installed(remote.bus) == []
    done = await remote.install(sha256)
    assert done.returncode == 0, done.stderr
    assert (f"{NAME}.onnx", BREAK_BYTES) in remote.server.requests
    assert [each.sha256 for each in await VoiceRecords(remote.bus).all()] == [sha256]


async def test_a_file_that_was_changed_meanwhile_is_not_continued(remote: FromServer, folder: Path) -> None:
    remote.server.breaks = True
    assert (await remote.install(digest_of(folder))).returncode == 1
    piper_voice.write(folder, NAME, seed=9)
    wrong = await remote.install("0" * 64)
    assert (wrong.returncode, await installed(remote.bus)) == (1, [])
    done = await remote.install(digest_of(folder))
    assert done.returncode == 0, done.stderr


async def test_a_wrong_hash_names_both_and_installs_nothing(remote: FromServer, folder: Path) -> None:
    wrong = await remote.install("0" * 64)
    assert wrong.returncode == 1
    assert digest_of(folder) in wrong.stderr
    assert "0" * 64 in wrong.stderr
    assert await installed(remote.bus) == []
    assert await BlobStore(remote.bus).num_chunks() == {}
    assert [path.name for path in remote.cache.iterdir() if path.is_dir()] == []
    missing = await on_bus(remote.bus, "voices", "install", NAME, "--from", remote.server.url, "--yes")
    assert (missing.returncode, "--sha256" in missing.stderr) == (2, True)


async def test_installs_of_one_voice_at_once_all_succeed_and_store_it_once(remote: FromServer, folder: Path) -> None:
    done = await asyncio.gather(*(remote.install(digest_of(folder)) for _ in range(3)))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    assert await installed(remote.bus) == [NAME]
    assert len(await BlobStore(remote.bus).num_chunks()) == 2, "two files"


async def test_a_server_without_the_voice_is_named(remote: FromServer, folder: Path) -> None:
    (folder / f"{NAME}.onnx").unlink()
    done = await remote.install("0" * 64)
    assert done.returncode == 1
    assert f"{remote.server.url}/{NAME}.onnx: 404" in done.stderr


async def test_a_full_disk_is_an_error_before_or_while_it_fills_and_leaves_nothing(
    server: VoiceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache" / "voice"
    download = Download(server.url, cache, lambda *_: None)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
        with pytest.raises(OpsError, match=f"{NAME}.onnx needs .* and .*voice has 100 free"):
            await download.run((f"{NAME}.onnx",))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OpsError, match="no space is left"):
        await download.run((f"{NAME}.onnx",))
    assert not cache.exists()


async def test_a_store_without_room_refuses_and_keeps_nothing(bus: Bus, folder: Path) -> None:
    await bus.topology.declare_blobs()
    store = BlobStore(bus)
    config = (await bus.js.info(store.names.stream))["config"]
    await bus.js.api(f"STREAM.UPDATE.{store.names.stream}", {**config, "max_bytes": 4096})
    done = await on_bus(bus, "voices", "install", NAME, "--from", str(folder), "--yes")
    assert done.returncode == 1
    assert "no room" in done.stderr
    assert (await installed(bus), await store.num_chunks()) == ([], {})
