"""From a log's entries to the PCM that comes next, and the error that an end other than `done` is."""

from bus import wire
from bus.errors import Cancelled, EngineFailed, Expired, JobError, Malformed, from_code
from bus.jobs.entry import Entry
from gateway.codecs.wave import SAMPLE_BYTES


def failure(end: Entry) -> JobError:
    """The error that a terminal entry other than `done` tells. Never raises."""
    try:
        if end.kind == "failed":
            told = wire.decode(wire.Failed, end.payload)
            return from_code(told.code, told.message, told.path)
        why = wire.decode(wire.Ended, end.payload).why
    except Malformed as error:
        return EngineFailed(f"the job ended as {end.kind}, and its last entry cannot be read: {error}")
    return Expired(why) if end.kind == "expired" else Cancelled(why)


class PcmReader:
    """What one listener has heard: takes entries in their order, gives the PCM that comes next."""

    def __init__(self, from_frame: int = 0, media: tuple[int, int] | None = None) -> None:
        """`from_frame`: the first one wanted. `media`: (rate_hz, channels), if the entry that tells it is not fed."""
        #: The next frame to come.
        self.frame = from_frame
        self.media = media
        self.end: Entry | None = None
        #: What begins to be heard in the PCM given last.
        self.marks: list[wire.Mark] = []
        #: Who speaks, "" while nobody said.
        self.worker = ""
        self._frame_bytes = media[1] * SAMPLE_BYTES if media else 0

    def feed(self, batch: list[Entry]) -> bytes:
        """The PCM of `batch` that is new. Raises EngineFailed if it does not fit what came before."""
        parts: list[bytes] = []
        self.marks = []
        for entry in batch:
            started = entry.started
            if started is not None:
                self._begin(started)
                self.worker = started.worker
            if entry.kind == "block":
                self._block(entry, parts)
            elif entry.is_end:
                self.end = entry
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _begin(self, started: wire.Started) -> None:
        media = started.pcm_media
        if self.media is not None and media != self.media:
            raise EngineFailed(f"the sound changes to {started.media} at frame {self.frame}")
        self.media = media
        self._frame_bytes = media[1] * SAMPLE_BYTES

    def _block(self, entry: Entry, parts: list[bytes]) -> None:
        if not self._frame_bytes:
            raise EngineFailed("a block came before its media")
        first, pcm = entry.frame, entry.payload
        after = first + len(pcm) // self._frame_bytes
        if after <= self.frame:
            return  # all of it is before what was asked for
        if first > self.frame:
            raise EngineFailed(f"frame {first} came where {self.frame} was due")
        self.marks += [mark for mark in entry.marks if mark.frame >= self.frame]
        parts.append(pcm[(self.frame - first) * self._frame_bytes :] if first < self.frame else pcm)
        self.frame = after

    @property
    def is_complete(self) -> bool:
        """Whether the job is done and every frame of it was heard."""
        return self.end is not None and self.end.kind == "done" and self.frame >= self.end.position.frame

    def check_complete(self) -> None:
        """Raises what the end says unless it is `done`, and EngineFailed unless every frame was heard."""
        assert self.end is not None
        if self.end.kind != "done":
            raise failure(self.end)
        frames = self.end.position.frame
        if self.frame < frames:
            raise EngineFailed(f"the job has {frames} frames, {self.frame} were heard")
