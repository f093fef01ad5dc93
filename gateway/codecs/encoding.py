"""One stream's way from PCM to bytes, off the event loop where it takes work."""

import asyncio
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

from gateway.codecs.format import Format, has_av
from gateway.codecs.resampler import Resampler
from gateway.codecs.telephone import LAWS, to_g711
from gateway.codecs.wave import wav_head

#: What one thread does before another stream may have it: about a second of sound.
_SLICE_BYTES: Final = 64 << 10
#: Of the process, because the CPUs are. Encoders leave the interpreter's lock while they work.
_POOL: Final = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="encoder")


class _Stage(Protocol):
    """Takes bytes, gives bytes; `finish` gives what is left, and nothing is fed to it after that."""

    def feed(self, data: bytes) -> bytes: ...
    def finish(self) -> bytes: ...
    def close(self) -> None: ...


class _Plain:
    """The samples themselves, behind a head."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def feed(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + data if head else data

    def finish(self) -> bytes:
        return self.feed(b"")

    def close(self) -> None:
        """It holds nothing."""


class _Telephone:
    def __init__(self, law: str) -> None:
        self._law = law

    def feed(self, data: bytes) -> bytes:
        return to_g711(data, self._law)

    def finish(self) -> bytes:
        return b""

    def close(self) -> None:
        """It holds nothing."""


class Encoding:
    """Fed by one task, in order. Equal sound becomes equal bytes, however it is cut, in every process of one build."""

    def __init__(self, form: Format, rate_hz: int, channels: int, frames: int | None = None) -> None:
        """`rate_hz`, `channels`: the job's. `frames`: of the job's whole sound, None while nobody knows."""
        self._form, self._rate_hz, self._channels, self._frames = form, rate_hz, channels, frames
        #: (rate_hz, channels) of what the bytes hold.
        self.media = form.media(rate_hz, channels)
        #: Whether it works in a thread of the pool.
        self.is_heavy = form.is_encoded or form.is_converted(rate_hz, channels)
        self._stages: list[_Stage] | None = None
        self._work: Future[bytes] | None = None
        self._is_closed = False

    async def feed(self, pcm: bytes) -> bytes:
        """`pcm`, s16le and interleaved, encoded as far as it can be; the head comes with the first.

        An encoding whose feeding was cancelled has lost what it was fed: it can only be closed.
        """
        if not self.is_heavy:
            return self._feed(pcm)
        parts = [await self._in_pool(pcm[at : at + _SLICE_BYTES]) for at in range(0, len(pcm), _SLICE_BYTES)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def finish(self) -> bytes:
        """What is left. The encoding is of no more use."""
        return await self._in_pool(None) if self.is_heavy else self._finish()

    def close(self) -> None:
        """Give up what it holds, once no thread uses it; more than once if need be."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._work is None:
            self._give_up(None)
        else:
            self._work.add_done_callback(self._give_up)  # at once if it is done, else in the thread that does it

    async def _in_pool(self, pcm: bytes | None) -> bytes:
        if self._is_closed or (self._work is not None and not self._work.done()):
            raise RuntimeError("an encoding is fed by one task at a time, and not after it was cut off or closed")
        self._work = _POOL.submit(self._finish) if pcm is None else _POOL.submit(self._feed, pcm)
        return await asyncio.wrap_future(self._work)

    def _feed(self, pcm: bytes) -> bytes:
        for stage in self._line():
            pcm = stage.feed(pcm)
        return pcm

    def _finish(self) -> bytes:
        data = b""
        for stage in self._line():
            data = stage.feed(data) + stage.finish()
        return data

    def _line(self) -> list[_Stage]:
        """What the sound goes through, made when there is some."""
        if self._stages is None:
            self._stages = _stages(self._form, self._rate_hz, self._channels, self._frames)
        return self._stages

    def _give_up(self, _: object) -> None:
        stages, self._stages = self._stages or [], []
        for stage in stages:
            stage.close()


def _stages(form: Format, rate_hz: int, channels: int, frames: int | None) -> list[_Stage]:
    out_hz, out_channels = form.media(rate_hz, channels)
    if frames is not None:
        frames = form.frames(frames, rate_hz, channels)
    stages: list[_Stage] = []
    if form.is_converted(rate_hz, channels):
        stages.append(_converter(form, rate_hz, channels))
    if form.is_encoded:
        from gateway.codecs.libav import Encoder  # noqa: PLC0415 - it may be missing, and takes 0.1 s

        stages.append(Encoder(form, out_hz, out_channels, frames))
    elif form.codec in LAWS:
        stages.append(_Telephone(form.codec))
    else:
        stages.append(_Plain(wav_head(out_hz, out_channels, frames) if form.codec == "wav" else b""))
    return stages


def _converter(form: Format, rate_hz: int, channels: int) -> _Stage:
    if form.speed == 1.0 and not has_av():
        return Resampler(form, rate_hz, channels)
    from gateway.codecs.libav import Converter  # noqa: PLC0415

    return Converter(form, rate_hz, channels)
