"""Reads PCM from the entries of a log, and errors from the terminal entries of jobs that are not done."""

import zlib

from bus import wire
from bus.errors import Cancelled, EngineFailed, Expired, JobError, LogDamaged, Malformed, from_code
from bus.jobs.entry import Entry, Position
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

    def __init__(self, from_frame: int = 0, media: tuple[int, int] | None = None, *, verify: bool = False) -> None:
        """`from_frame`: the first frame wanted. `media`: (rate_hz, channels), if the log's first entry is not fed.

        `verify`: check each block that is read back by its CRC, which a listener of a running job need not.
        """
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
        self._verify = verify
        #: Where the log stood after the block that was fed last.
        self._last = Position()
        #: The damage that was met, once the PCM before it was returned.
        self.damage: LogDamaged | None = None

    def feed(self, batch: list[Entry]) -> bytes:
        """The new PCM of `batch`, s16le.

        Raises LogDamaged if it does not continue the PCM before it, or is not what was written. The PCM before the
        damage is returned first: then the next call raises, and `check_complete`.
        """
        if self.damage is not None:
            raise self.damage
        parts: list[bytes] = []
        self.marks = []
        try:
            for entry in batch:
                self._entry(entry, parts)
        except LogDamaged as error:
            if not parts:
                raise
            self.damage = error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _entry(self, entry: Entry, parts: list[bytes]) -> None:
        started = entry.started
        if started is not None:
            self._begin(started)
            self.worker = started.worker
        if entry.kind == "block":
            self._block(entry, parts)
        elif entry.is_end:
            self.end = entry

    def go_on(self) -> None:
        """Take the entries of another log with the same audio from now on; frames that were read are skipped."""
        self.end = None
        self.damage = None
        self._last = Position()

    def _begin(self, started: wire.Started) -> None:
        media = started.pcm_media
        if self.media is not None and media != self.media:
            raise EngineFailed(f"the audio changes to {started.media} at frame {self.frame}")
        self.media = media
        self._frame_bytes = media[1] * SAMPLE_BYTES

    def _block(self, entry: Entry, parts: list[bytes]) -> None:
        if not self._frame_bytes:
            raise LogDamaged.at(0, entry.position.frame)  # the entry that stated the media type is lost
        first, pcm = entry.frame, entry.payload
        after = first + len(pcm) // self._frame_bytes
        if self._verify:
            self._check_crc(entry, first, after)
        if after <= self.frame:
            return  # all of it is before the first frame wanted, or was read already
        if first > self.frame:
            raise LogDamaged.at(self.frame, first)
        if marks := entry.marks:
            self.marks += [mark for mark in marks if mark.frame >= self.frame]
        parts.append(pcm[(self.frame - first) * self._frame_bytes :] if first < self.frame else pcm)
        self.frame = after

    def _check_crc(self, entry: Entry, first: int, after: int) -> None:
        last, position = self._last, entry.position
        self._last = position
        if first == last.frame and zlib.crc32(entry.payload, last.crc32) != position.crc32:
            raise LogDamaged.at(first, after)

    @property
    def is_complete(self) -> bool:
        """Whether the job is done and every frame of it was read."""
        return self.end is not None and self.end.kind == "done" and self.frame >= self.end.position.frame

    def check_complete(self) -> None:
        """Raises the error of an end other than `done`, and LogDamaged unless every frame was read."""
        if self.damage is not None:
            raise self.damage
        assert self.end is not None
        if self.end.kind != "done":
            raise failure(self.end)
        frames = self.end.position.frame
        if self.frame < frames:
            raise LogDamaged.at(self.frame, frames)
