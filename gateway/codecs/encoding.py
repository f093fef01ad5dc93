"""Encodes one stream, from PCM to the bytes of a body; off the event loop where that takes CPU time."""

import asyncio
import contextlib
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from bus.turns import Turns
from gateway.codecs.format import Format, wav_head
from gateway.codecs.telephone import LAWS, to_g711

#: Bytes that a thread encodes before another stream may have it: about a second of audio.
_SLICE_BYTES: Final = 64 << 10
#: One pool per process: encoding is CPU-bound, and encoders release the interpreter's lock.
NUM_THREADS: Final = os.cpu_count() or 1
#: Where nice values are those of threads, as on Linux, the event loop comes before them.
_NICE: Final = 5 if sys.platform == "linux" else 0
_POOL: Final = ThreadPoolExecutor(NUM_THREADS, "encoder", initializer=os.nice, initargs=(_NICE,))
#: Turns at its threads, for each event loop: a process has one.
_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = WeakKeyDictionary()


class HasOwner(Protocol):
    """Uses a share of the threads' time; a `Caller` does."""

    @property
    def owner(self) -> str:
        """Whose share it is."""
        ...


class _Stage(Protocol):
    """Takes bytes and returns bytes; `finish` returns the rest, and nothing is fed after it."""

    def feed(self, data: bytes) -> bytes:
        """Process more bytes; returns those that are ready."""
        ...

    def finish(self) -> bytes:
        """The rest."""
        ...

    def close(self) -> None:
        """Release its resources."""
        ...


class _Plain:
    """The samples themselves, after a head."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def feed(self, data: bytes) -> bytes:
        if not self._head:
            return data
        head = self._head
        self._head = b""
        return head + data

    def finish(self) -> bytes:
        return self.feed(b"")

    def close(self) -> None:
        """Holds nothing."""


class _Telephone:
    """G.711, one byte per sample."""

    def __init__(self, law: str) -> None:
        self._law = law

    def feed(self, data: bytes) -> bytes:
        return to_g711(data, self._law)

    def finish(self) -> bytes:
        return b""

    def close(self) -> None:
        """Holds nothing."""


class Encoding:
    """One stream's encoder. One task feeds it, in order; `close` it at the end.

    Equal audio becomes equal bytes, however it is cut into pieces, in every process of one build.
    """

    def __init__(
        self,
        form: Format,
        rate_hz: int,
        channels: int,
        num_frames: int | None = None,
        *,
        caller: HasOwner,
        tag: str,
    ) -> None:
        """`rate_hz`, `channels`: of the job. `num_frames`: of the job's whole audio, None while it is not known.

        `caller`: whose owner's share of the threads' time it uses. `tag`: `Format.tag` of the job.
        """
        self._caller = caller
        self._form = form
        self._rate_hz = rate_hz
        self._channels = channels
        self._num_frames = num_frames
        self._tag = tag
        #: (rate_hz, channels) of the encoded audio.
        self.media = form.media(rate_hz, channels)
        #: Whether it works in a thread of the pool.
        self.is_heavy = form.is_encoded or form.is_converted(rate_hz, channels)
        self._stages: list[_Stage] | None = None
        self._work: Future[bytes] | None = None
        #: Also after a feed that failed or was cancelled.
        self._is_busy = False
        self._is_closed = False

    async def feed(self, pcm: bytes) -> bytes:
        """Encode `pcm`, s16le and interleaved; returns the bytes that are ready, the head before the first.

        If cancelled, the encoding has lost `pcm`: it can only be closed.
        """
        if not self.is_heavy:
            return self._feed(pcm)
        parts = [await self._in_pool(pcm[at : at + _SLICE_BYTES]) for at in range(0, len(pcm), _SLICE_BYTES)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def finish(self) -> bytes:
        """The rest of the body; the encoding can only be closed afterwards."""
        return await self._in_pool(None) if self.is_heavy else self._finish()

    def close(self) -> None:
        """Release the encoder, once no thread uses it. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._work is None:
            self._release(None)
        else:
            self._work.add_done_callback(self._release)  # at once if it is done, else in the thread that does it

    async def _in_pool(self, pcm: bytes | None) -> bytes:
        if self._is_closed or self._is_busy:
            raise RuntimeError("an encoding is fed by one task at a time, and not after it was cancelled or closed")
        self._is_busy = True
        await self._start(pcm)
        assert self._work is not None
        data = await asyncio.wrap_future(self._work)
        self._is_busy = False
        return data

    async def _start(self, pcm: bytes | None) -> None:
        """Give `pcm` to a thread, once it is the owner's turn."""
        loop, owner = asyncio.get_running_loop(), self._caller.owner
        turns = _TURNS.get(loop)
        if turns is None:
            turns = _TURNS[loop] = Turns(NUM_THREADS)
        await turns.begin(owner)

        def end_turn(_: object) -> None:
            """In the thread, also if the feed was cancelled meanwhile: until now no other one could have it."""
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing waits for a turn any more
                loop.call_soon_threadsafe(turns.end, owner)

        self._work = _POOL.submit(self._finish) if pcm is None else _POOL.submit(self._feed, pcm)
        self._work.add_done_callback(end_turn)

    def _feed(self, pcm: bytes) -> bytes:
        for stage in self._pipeline():
            pcm = stage.feed(pcm)
        return pcm

    def _finish(self) -> bytes:
        data = b""
        for stage in self._pipeline():
            data = stage.feed(data) + stage.finish()
        return data

    def _pipeline(self) -> list[_Stage]:
        """The stages, made at the first use: in the thread that uses them."""
        if self._stages is None:
            self._stages = _stages(self._form, self._rate_hz, self._channels, self._num_frames, self._tag)
        return self._stages

    def _release(self, _: object) -> None:
        stages = self._stages or []
        self._stages = []
        for stage in stages:
            stage.close()


def _stages(form: Format, rate_hz: int, channels: int, num_frames: int | None, tag: str) -> list[_Stage]:
    out_hz, out_channels = form.media(rate_hz, channels)
    if num_frames is not None:
        num_frames = form.frames(num_frames, rate_hz, channels)
    stages: list[_Stage] = []
    if form.is_encoded or form.is_converted(rate_hz, channels):
        from gateway.codecs.libav import Converter, Encoder  # noqa: PLC0415 - takes 0.1 s, and a WAV does not need it

        if form.is_converted(rate_hz, channels):
            stages.append(Converter(form, rate_hz, channels))
        if form.is_encoded:
            stages.append(Encoder(form, out_hz, out_channels, num_frames, tag))
            return stages
    if form.codec in LAWS:
        stages.append(_Telephone(form.codec))
    else:
        stages.append(_Plain(wav_head(out_hz, out_channels, num_frames, tag) if form.codec == "wav" else b""))
    return stages
