"""The sentence of a recording, by a recogniser that knows a closed list of sentences.

Free recognition finds words in silence and music too; a closed grammar answers None there, so an answer is proof.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np
import pocketsphinx

_RATE_HZ = 16_000
_MARGIN_FRAMES = _RATE_HZ // 4
#: Of the noise laid under the recording, in units of s16. In digital silence the recogniser misses half of what
#: synthetic voices say; at 60 it begins to hear a sentence of the list in others.
_NOISE = 10


def recognised(pcm_s16: bytes, rate_hz: int, sentences: Sequence[str]) -> str | None:
    """The one of `sentences` (English) that the mono recording says, or None.

    Give it at least eight: with few alternatives, the nearest of them is no proof. Raises ValueError for a word that
    the recogniser's dictionary lacks.
    """
    spoken = {_words(sentence): sentence for sentence in sentences}
    decoder = _decoder(tuple(spoken))
    decoder.start_utt()
    decoder.process_raw(_for_decoder(pcm_s16, rate_hz), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return spoken.get(hypothesis.hypstr) if hypothesis else None


def _words(sentence: str) -> str:
    return " ".join(re.findall(r"[a-z']+", sentence.lower()))


@functools.lru_cache(maxsize=8)
def _decoder(sentences: tuple[str, ...]) -> pocketsphinx.Decoder:
    decoder = pocketsphinx.Decoder(samprate=_RATE_HZ, lm=None, loglevel="FATAL")
    unknown = sorted({word for sentence in sentences for word in sentence.split() if not decoder.lookup_word(word)})
    if unknown:
        raise ValueError(f"the recogniser does not know {', '.join(unknown)}")
    decoder.add_jsgf_string("closed", f"#JSGF V1.0; grammar closed; public <one> = {' | '.join(sentences)} ;")
    decoder.activate_search("closed")
    return decoder


def _for_decoder(pcm_s16: bytes, rate_hz: int) -> bytes:
    """At the decoder's rate, with a margin, which the recogniser needs to find the edges, and a little noise."""
    pcm = np.frombuffer(pcm_s16, "<i2").astype(np.float64)
    frames = round(len(pcm) * _RATE_HZ / rate_hz)
    spectrum = np.zeros(frames // 2 + 1, np.complex128)
    whole = np.fft.rfft(pcm)
    shared = min(len(whole), len(spectrum))
    spectrum[:shared] = whole[:shared]
    resampled = np.fft.irfft(spectrum, frames) * frames / max(1, len(pcm))
    padded = np.pad(resampled, _MARGIN_FRAMES)
    noise = np.random.default_rng(0).standard_normal(len(padded)) * _NOISE
    return np.rint(padded + noise).clip(-32768, 32767).astype("<i2").tobytes()
