"""Clips of voices, from files of strangers: decoded in a process of their own, with a limit on everything."""

import asyncio
import contextlib
import os
import struct
import sys
from typing import Final

import msgspec

from bus.errors import Invalid, Overloaded
from bus.telemetry.logging import logger

log = logger(__name__)

RATE_HZ: Final = 24_000
#: A process that does not end is killed.
_DECODE_S: Final = 10.0
#: Clips that are decoded at one time.
_NUM_PROCESSES: Final = 2
_WAIT_S: Final = 10.0
_HEAD_BYTES: Final = 4096
#: Of our environment, what Python needs to start; the rest has passwords.
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG")


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded clip."""

    #: mono, s16le, `RATE_HZ`
    pcm: bytes
    seconds: float
    #: FFmpeg's name of the format of the file.
    container: str
    #: `quiet`: no sample is louder than -26 dB; `clipped`: more than 0.1 % of them are at full scale.
    warnings: list[str]

    def wav(self) -> bytes:
        """The clip as a WAV file: 44 bytes of header, then the samples. Source: Microsoft's RIFF specification."""
        size = len(self.pcm)
        form = struct.pack("<HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
        return (
            struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", len(form))
            + form
            + struct.pack("<4sI", b"data", size)
            + self.pcm
        )


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    refused: str = ""
    seconds: float = 0.0
    container: str = ""
    warnings: list[str] = []


class ClipDecoder:
    """Decodes a few clips at a time."""

    def __init__(self, min_s: float, max_s: float) -> None:
        """`min_s`, `max_s`: lengths of a clip in seconds."""
        self._limits = (min_s, max_s)
        self._max_bytes = _HEAD_BYTES + int(max_s * RATE_HZ) * 2
        self._turns = asyncio.Semaphore(_NUM_PROCESSES)

    async def decode(self, data: bytes, field: str) -> Clip:
        """The clip in `data`. `field`: its name, for errors.

        The process has ended when this returns, raises or is cancelled. Raises Invalid for a file that is no clip,
        Overloaded if others are decoded for too long.
        """
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded(f"{_NUM_PROCESSES} other clips were being decoded for {_WAIT_S:g} s; try again") from None
        try:
            return _clip(await self._run(data, field), field)
        finally:
            self._turns.release()

    async def _run(self, data: bytes, field: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.codecs.clip_process",
            *map(str, self._limits),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
        try:
            async with asyncio.timeout(_DECODE_S):
                answer = await self._exchange(process, data)
                status = await process.wait()
        except TimeoutError:
            raise Invalid(f"{field}: took more than {_DECODE_S:g} s to decode", field) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if status:
            log.warning("voices.decoder_died", status=status, bytes=len(data))
            raise Invalid(f"{field}: is no sound that can be decoded: its decoder ended with status {status}", field)
        return answer

    async def _exchange(self, process: asyncio.subprocess.Process, data: bytes) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(_read(process.stdout, self._max_bytes))
            tasks.create_task(_write(process.stdin, data))
        return answer.result()


async def _write(stdin: asyncio.StreamWriter, data: bytes) -> None:
    # The process may end before it has read all.
    with contextlib.suppress(ConnectionError):
        stdin.write(data)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _read(stdout: asyncio.StreamReader, max_bytes: int) -> bytes:
    """All that the process writes; a little more than `max_bytes` if that is more."""
    answer = bytearray()
    while len(answer) <= max_bytes and (piece := await stdout.read(1 << 16)):
        answer += piece
    return bytes(answer)


def _clip(data: bytes, field: str) -> Clip:
    head, _, pcm = data.partition(b"\n")
    try:
        answer = msgspec.json.decode(head, type=_Answer)
    except msgspec.DecodeError as error:
        raise Invalid(f"{field}: its decoder answered {head[:40]!r}", field) from error
    if answer.refused:
        raise Invalid(f"{field}: {answer.refused}", field)
    return Clip(pcm=pcm, seconds=answer.seconds, container=answer.container, warnings=answer.warnings)
