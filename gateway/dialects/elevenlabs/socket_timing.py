"""Cuts a generation's audio into chunks that end where a character ends, with the times of the characters in each."""

from collections.abc import Sequence
from typing import Any

from bus import wire
from gateway.codecs.format import SAMPLE_BYTES
from gateway.dialects.elevenlabs.timing import Alignment, Characters, joined


class Chunks:
    """Turns PCM and marks into chunks.

    The engine marks words; characters between two marks are taken to have equal length. Audio after the last mark is
    held back until the next one arrives, so that the characters of a chunk fill it exactly. Without marks nothing is
    held back.
    """

    def __init__(self, text: str, played_hz: float, channels: int) -> None:
        """`played_hz`: frames of the job that are played in a second."""
        self._characters = Characters(text)
        self._played_hz = played_hz
        self._frame_bytes = channels * SAMPLE_BYTES
        self._held = b""
        #: The first frame of the PCM that is held back.
        self._frame = 0
        self._is_marked = False

    def take(self, pcm: bytes, marks: Sequence[wire.Mark], *, is_last: bool) -> tuple[bytes, dict[str, Any] | None]:
        """The PCM of the next chunk, perhaps empty, and its alignment, None if it has no characters.

        `is_last`: `pcm` is the end of the audio.
        """
        self._held += pcm
        begins_s = self._frame / self._played_hz
        alignment = self._characters.take([(mark.start, mark.frame / self._played_hz) for mark in marks])
        self._is_marked = self._is_marked or bool(marks)
        end = self._frame + len(self._held) // self._frame_bytes
        if is_last:
            alignment = joined(alignment, self._characters.rest(end / self._played_hz))
        elif self._is_marked:
            end = max([self._frame, *(mark.frame for mark in marks)])
        size = (end - self._frame) * self._frame_bytes
        chunk = self._held[:size]
        self._held = self._held[size:]
        self._frame = end
        return chunk, _relative(alignment, begins_s) if alignment is not None else None


def _relative(alignment: Alignment, begins_s: float) -> dict[str, Any]:
    """ElevenLabs' form of an alignment, in milliseconds from the beginning of the chunk."""
    starts = [max(0, round((at_s - begins_s) * 1000)) for at_s in alignment.character_start_times_seconds]
    ends = [max(0, round((at_s - begins_s) * 1000)) for at_s in alignment.character_end_times_seconds]
    durations = [end - start for start, end in zip(starts, ends, strict=True)]
    # Clients before 2026 read the durations under the second name.
    return {
        "charStartTimesMs": starts,
        "charDurationsMs": durations,
        "charsDurationsMs": durations,
        "chars": alignment.characters,
    }
