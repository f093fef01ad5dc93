"""A loaded voice: phoneme ids in, audio in windows out.

The windows of flow and vocoder lie on grids from the beginning of the sentence, and each is computed with the frames
around it that it depends on. So a window is the same bit by bit, whichever of them an attempt begins with.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpuworker.engine import Pcm
from gpuworker.engines.networks.session import open_session, run_session
from gpuworker.engines.piper.graphs import IDS, LENGTH_NOISE, NUM_IDS, SCALES, SPEAKER, cut

#: Widths of a sentence's windows in latent frames of about 12 ms: the first one short, for a listener waits for it.
_FIRST_WINDOWS: Final = (8, 16, 32)
_WINDOW: Final = 64
#: The same for the flow, behind its first window, which is as wide as the vocoder's first one needs. Each costs its
#: context twice, so they are wide.
_FLOW_WINDOW: Final = 320


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sentence is spoken."""

    #: Number of the speaker, for voices with several.
    speaker: int
    speed: float
    #: How far sound and the lengths of phonemes vary with the seed, 0 to 1.
    variation: float
    rhythm: float
    #: With the number of the sentence, the only source of chance.
    seed: int


@dataclass(frozen=True, slots=True)
class Prior:
    """A sentence before the expensive part: its length is known, and that of each phoneme."""

    joined: NDArray[np.float32]
    mask: NDArray[np.float32]
    speaker: int
    #: Of the sentence, in audio frames.
    frames: int
    #: First audio frame of each phoneme id.
    starts: Sequence[int]


class Network:
    """Three onnxruntime sessions on one device, of the parts `graphs`. Constant after construction."""

    def __init__(self, path: Path, device: str) -> None:
        """Read and cut the voice, about a second for 60 MB. Raises Unusable."""
        graphs = cut(path)
        self.graphs = graphs
        self._text = open_session(graphs.text, device)
        self._flow = open_session(graphs.flow, device)
        self._vocoder = open_session(graphs.vocoder, device)

    @property
    def hop(self) -> int:
        """Audio frames of a latent frame."""
        return self.graphs.hop

    def prior(self, ids: Sequence[int], sentence: int, manner: Manner) -> Prior:
        """Decide how the sentence, number `sentence` of its job, sounds, and how long it is. Raises OutOfMemory."""
        noise = np.random.Generator(np.random.Philox(key=[manner.seed, sentence]))
        graphs = self.graphs
        inputs = {
            IDS: np.array([ids], np.int64),
            NUM_IDS: np.array([len(ids)], np.int64),
            SCALES: np.array([manner.variation, 1 / manner.speed, manner.rhythm], np.float32),
            LENGTH_NOISE: noise.standard_normal((1, 2, len(ids)), np.float32),
            **self._speaker(manner.speaker),
        }
        wanted = [graphs.mean, graphs.deviation, graphs.mask, graphs.lengths]
        mean, deviation, mask, lengths = run_session(self._text, wanted, inputs)
        drawn = noise.standard_normal(mean.shape, np.float32)
        joined = mean + drawn * deviation * np.float32(manner.variation)
        ends = np.cumsum(lengths.reshape(-1)).astype(np.int64) * graphs.hop
        starts = [0, *ends[:-1].tolist()]
        return Prior(joined, mask, manner.speaker, joined.shape[2] * graphs.hop, starts)

    def windows(self, prior: Prior, skip: int) -> Iterator[tuple[int, Pcm]]:
        """(First frame within the sentence, audio) of each window, from the one on that holds frame `skip`.

        Audio is float32, shape (frames, 1), in [-1, 1]. Raises OutOfMemory.
        """
        graphs = self.graphs
        speaker = self._speaker(prior.speaker)
        latent = Latent(self, prior)
        for start, end in grid(latent.length, _FIRST_WINDOWS, _WINDOW):
            if end * graphs.hop <= skip:
                continue
            low, high = max(0, start - graphs.context), min(latent.length, end + graphs.context)
            (audio,) = run_session(self._vocoder, None, {graphs.latent: latent.frames(low, high), **speaker})
            pcm = audio.reshape(-1)[(start - low) * graphs.hop : (end - low) * graphs.hop]
            yield start * graphs.hop, pcm.clip(-1, 1).astype(np.float32).reshape(-1, 1)

    def flow(self, prior: Prior, low: int, high: int) -> NDArray[np.float32]:
        """The latent frames from `low` to `high`, at both ends without all of their context. Raises OutOfMemory."""
        graphs = self.graphs
        inputs = {
            graphs.joined: np.ascontiguousarray(prior.joined[:, :, low:high]),
            graphs.mask: np.ascontiguousarray(prior.mask[:, :, low:high]),
            **self._speaker(prior.speaker),
        }
        found: NDArray[np.float32] = run_session(self._flow, [graphs.latent], inputs)[0]
        return found

    def _speaker(self, number: int) -> dict[str, Any]:
        return {SPEAKER: np.array([number], np.int64)} if self.graphs.has_speakers else {}


class Latent:
    """The latent frames of a sentence, computed window by window as they are needed."""

    def __init__(self, network: Network, prior: Prior) -> None:
        self._network = network
        self._prior = prior
        self.length = prior.joined.shape[2]
        first = _FIRST_WINDOWS[0] + network.graphs.context
        self._windows = list(grid(self.length, (first,), _FLOW_WINDOW))
        #: Frames by the start of their window; those before the last request are dropped.
        self._made: dict[int, NDArray[np.float32]] = {}

    def frames(self, low: int, high: int) -> NDArray[np.float32]:
        """Frames `low` to `high`, in ascending order from one call to the next. Raises OutOfMemory."""
        wanted = [(start, end) for start, end in self._windows if start < high and end > low]
        self._made = {
            start: self._made[start] if start in self._made else self._make(start, end) for start, end in wanted
        }
        first = wanted[0][0]
        joined = np.concatenate(list(self._made.values()), axis=2)
        return np.ascontiguousarray(joined[:, :, low - first : high - first])

    def _make(self, start: int, end: int) -> NDArray[np.float32]:
        context = self._network.graphs.flow_context
        low, high = max(0, start - context), min(self.length, end + context)
        return self._network.flow(self._prior, low, high)[:, :, start - low : end - low]


def grid(length: int, first: Sequence[int], width: int) -> Iterator[tuple[int, int]]:
    """(Start, end) of windows over `length` frames: of the widths `first`, then of `width`."""
    start = 0
    for each in first:
        if start < length:
            yield start, min(start + each, length)
            start += each
    for at in range(start, length, width):
        yield at, min(at + width, length)
