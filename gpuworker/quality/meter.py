"""All measures of one job's audio, fed with the log's PCM in blocks of any size."""

from dataclasses import dataclass
from math import inf

import msgspec

from bus.quality import Limits, Quality
from gpuworker.quality.levels import Clips, Offset, TruePeak
from gpuworker.quality.loudness import Loudness
from gpuworker.quality.repetition import Repetition
from gpuworker.quality.silence import Dropouts, Ending, Envelope, Silences
from gpuworker.quality.spectrum import ShortSpectra, Spread
from gpuworker.quality.speech import SpeechShare
from gpuworker.quality.verdict import flags, repeats_itself
from gpuworker.quality.window import Window, Windows


@dataclass(frozen=True, slots=True)
class Subject:
    """Facts of a job that its audio is judged by."""

    rate_hz: int
    channels: int
    limits: Limits
    #: First frame that is measured.
    first_frame: int = 0
    #: The most seconds of the job; None if that is not known.
    bound_s: float | None = None
    #: Where it repeats itself, equal sounds are no fault.
    text: str = ""


class Meter:
    """Measures a job; the results do not depend on block sizes."""

    def __init__(self, subject: Subject, speech: SpeechShare | None = None) -> None:
        """`speech`: the detector of speech, if the job is looked at by one."""
        self._subject = subject
        rate_hz, channels = subject.rate_hz, subject.channels
        self._windows = Windows(rate_hz, channels)
        step = self._windows.step_frames
        self._frames = 0
        self._peak = TruePeak(channels)
        self._clips = Clips(channels)
        self._offset = Offset(channels)
        self._loudness = Loudness(rate_hz, channels)
        self._envelope = Envelope(step)
        self._dropouts = Dropouts(rate_hz, subject.limits.dropout_edge_dbfs)
        self._ending = Ending(rate_hz)
        self._spectra = ShortSpectra(step)
        self._spread = Spread(rate_hz, step)
        self._repetition = Repetition(step)
        self._speech = speech

    def add(self, pcm: bytes) -> None:
        """Measure s16le, interleaved, whole frames, that follow those before."""
        for window in self._windows.add(pcm):
            self._measure(window)

    def _measure(self, window: Window) -> None:
        self._frames += len(window.mono)
        self._peak.add(window)
        self._clips.add(window)
        self._offset.add(window)
        self._loudness.add(window)
        self._envelope.add(window)
        self._dropouts.add(window)
        self._ending.add(window)
        spectra = self._spectra.of(window)
        self._spread.add(spectra)
        self._repetition.add(spectra)
        if self._speech is not None:
            self._speech.add(window.mono)

    def finish(self) -> Quality:
        """The measures, and flags by the limits, of all audio. To be called once."""
        for window in self._windows.rest():
            self._measure(window)
        subject = self._subject
        silences = Silences(self._envelope.levels, subject.limits.silence_dbfs)
        seconds = (subject.first_frame + self._frames) / subject.rate_hz
        quality = Quality(
            covers_from_frame=subject.first_frame,
            loudness_lufs=self._loudness.lufs,
            true_peak_dbtp=self._peak.dbtp,
            clips=self._clips.count,
            offset=self._offset.value,
            dropouts=self._dropouts.count,
            longest_gap_s=round(silences.longest_gap_s, 2),
            silent_share=silences.share,
            snr_db=silences.snr_db,
            flatness=self._spread.flatness,
            bandwidth_hz=self._spread.bandwidth_hz,
            end_dbfs=self._ending.dbfs,
            bound_share=round(seconds / subject.bound_s, 4) if subject.bound_s else None,
            repeats=self._repetition.repeats,
            speech_share=self._speech.share if self._speech is not None else None,
        )
        is_silent = bool(self._frames) and silences.is_silent
        limits = subject.limits
        if quality.repeats > limits.max_repeats and repeats_itself(subject.text):
            limits = msgspec.structs.replace(limits, max_repeats=inf)
        found = flags(quality, limits, self._frames / subject.rate_hz, is_silent=is_silent)
        return msgspec.structs.replace(quality, flags=found)
