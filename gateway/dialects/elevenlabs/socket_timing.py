"""A generation's sound in chunks that end where a character does, with the time of each character in its chunk."""

from collections.abc import Sequence
from typing import Any

from bus import wire
from gateway.codecs.wave import SAMPLE_BYTES
from gateway.dialects.elevenlabs.timing import Alignment, Characters


class Chunks:
    """PCM and marks in, chunks out.

    The engine marks words: between two marks the characters are taken to be of equal length. Sound behind the last mark
    is held back until the next one is known, so that a chunk's characters fill it exactly; without marks nothing is.
    """

    def __init__(self, text: str, heard_hz: float, channels: int) -> None:
        """`heard_hz`: frames of the job that are heard in a second."""
        self._characters, self._heard_hz = Characters(text), heard_hz
        self._frame_bytes = channels * SAMPLE_BYTES
        self._held = b""
        #: First frame of what is held.
        self._frame = 0
        self._is_marked = False

    def take(self, pcm: bytes, marks: Sequence[wire.Mark], *, is_last: bool) -> tuple[bytes, dict[str, Any] | None]:
        """The PCM of the next chunk, and its alignment if there is one; both may be empty."""
        self._held += pcm
        begins_s = self._frame / self._heard_hz
        told = self._characters.take([(mark.start, mark.frame / self._heard_hz) for mark in marks])
        self._is_marked = self._is_marked or bool(marks)
        end = self._frame + len(self._held) // self._frame_bytes
        if is_last:
            rest = self._characters.rest(end / self._heard_hz)
            if told is not None and rest is not None:
                told.extend(rest)
            told = told if told is not None else rest
        elif self._is_marked:
            end = max([self._frame, *(mark.frame for mark in marks)])
        size = (end - self._frame) * self._frame_bytes
        chunk, self._held, self._frame = self._held[:size], self._held[size:], end
        return chunk, _relative(told, begins_s) if told is not None else None


def _relative(told: Alignment, begins_s: float) -> dict[str, Any]:
    """Theirs, in milliseconds from the chunk's beginning."""
    starts = [max(0, round((at_s - begins_s) * 1000)) for at_s in told.character_start_times_seconds]
    ends = [max(0, round((at_s - begins_s) * 1000)) for at_s in told.character_end_times_seconds]
    durations = [end - start for start, end in zip(starts, ends, strict=True)]
    # The second name of the durations is the one that clients before 2026 read.
    return {
        "charStartTimesMs": starts,
        "charDurationsMs": durations,
        "charsDurationsMs": durations,
        "chars": told.characters,
    }
