"""Reads PCM from the entries of a log, and errors from the terminal entries of jobs that are not done."""

from bus import wire
from bus.errors import Cancelled, EngineFailed, Expired, JobError, Malformed, from_code
from bus.jobs.entry import Entry
from gateway.codecs.format import SAMPLE_BYTES


def failure(end: Entry) -> JobError:
    """The error that a terminal entry other than `done` stands for. Never raises."""
    try:
        if end.kind == "failed":
            failed = wire.decode(wire.Failed, end.payload)
            return from_code(failed.code, failed.message, failed.path)
        why = wire.decode(wire.Ended, end.payload).why
    except Malformed as error:
        return EngineFailed(f"the job ended as {end.kind}, and its last entry cannot be read: {error}")
    return Expired(why) if end.kind == "expired" else Cancelled(why)


class PcmReader:
    """One listener's place in a log: takes the entries in order, returns each frame once, from a first frame on."""

    def __init__(self, from_frame: int = 0, media: tuple[int, int] | None = None) -> None:
        """`from_frame`: the first frame wanted. `media`: (rate_hz, channels), if the log's first entry is not fed."""
        #: The next frame.
        self.frame = from_frame
        #: (rate_hz, channels); None until an attempt states it.
        self.media = media
        #: The terminal entry, once it was fed.
        self.end: Entry | None = None
        #: Marks located in the PCM returned last.
        self.marks: list[wire.Mark] = []
        #: The worker of the newest attempt, "" before the first.
        self.worker = ""
        self._frame_bytes = media[1] * SAMPLE_BYTES if media else 0

    def feed(self, batch: list[Entry]) -> bytes:
        """The new PCM of `batch`, s16le. Raises EngineFailed if it does not continue the PCM before it."""
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
            raise EngineFailed(f"the audio changes to {started.media} at frame {self.frame}")
        self.media = media
        self._frame_bytes = media[1] * SAMPLE_BYTES

    def _block(self, entry: Entry, parts: list[bytes]) -> None:
        if not self._frame_bytes:
            raise EngineFailed("a block came before its media type")
        first, pcm = entry.frame, entry.payload
        after = first + len(pcm) // self._frame_bytes
        if after <= self.frame:
            return  # all of it is before the first frame wanted, or was read already
        if first > self.frame:
            raise EngineFailed(f"frame {first} came where frame {self.frame} was expected")
        if marks := entry.marks:
            self.marks += [mark for mark in marks if mark.frame >= self.frame]
        parts.append(pcm[(self.frame - first) * self._frame_bytes :] if first < self.frame else pcm)
        self.frame = after

    @property
    def is_complete(self) -> bool:
        """Whether the job is done and every frame of it was read."""
        return self.end is not None and self.end.kind == "done" and self.frame >= self.end.position.frame

    def check_complete(self) -> None:
        """Raises the error of an end other than `done`, and EngineFailed unless every frame was read."""
        assert self.end is not None
        if self.end.kind != "done":
            raise failure(self.end)
        frames = self.end.position.frame
        if self.frame < frames:
            raise EngineFailed(f"the job has {frames} frames, {self.frame} were read")
