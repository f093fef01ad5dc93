"""Measures against limits. Pure."""

import re
from typing import Final

from bus.quality import Flag, Limits, Quality

_WORD: Final = re.compile(r"\w+")
#: Words of a pattern that a text may repeat, and copies of it from which on the text repeats itself.
_LONGEST: Final = 12
_COPIES: Final = 3


def flags(quality: Quality, limits: Limits, seconds: float, *, is_silent: bool) -> list[Flag]:
    """The measures that are beyond their limits, sorted. `seconds`: of the audio that was measured."""
    if is_silent:
        return [Flag.SILENCE]  # the others say the same, or nothing
    found = {
        Flag.QUIET: _is_below(quality.loudness_lufs, limits.min_loudness_lufs),
        Flag.CLIPPING: quality.clips > limits.max_clips_per_s * max(1.0, seconds),
        Flag.OFFSET: quality.offset > limits.max_offset,
        Flag.DROPOUT: quality.dropouts > limits.max_dropouts,
        Flag.GAP: quality.longest_gap_s > limits.max_gap_s,
        Flag.NOISE: _is_below(quality.snr_db, limits.min_snr_db) or _is_above(quality.flatness, limits.max_flatness),
        Flag.NARROW: _is_below(quality.bandwidth_hz, limits.min_bandwidth_hz),
        Flag.EARLY_STOP: _is_below(quality.bound_share, limits.min_bound_share)
        or _is_above(quality.end_dbfs, limits.max_end_dbfs),
        Flag.REPETITION: quality.repeats > limits.max_repeats,
        Flag.NOT_SPEECH: _is_below(quality.speech_share, limits.min_speech_share),
    }
    return sorted(flag for flag, is_set in found.items() if is_set)


def repeats_itself(text: str) -> bool:
    """Whether up to 12 words, or up to 12 characters, stand three times in a row in a text: `no, no, no`, `hahaha`."""
    words = _WORD.findall(text.casefold())
    return _has_run(words) or any(_has_run(word) for word in words)


def _has_run(items: list[str] | str) -> bool:
    for size in range(1, min(_LONGEST, len(items) // _COPIES) + 1):
        run = 0
        for index in range(size, len(items)):
            run = run + 1 if items[index] == items[index - size] else 0
            if run == (_COPIES - 1) * size:
                return True
    return False


def _is_below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


def _is_above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit
