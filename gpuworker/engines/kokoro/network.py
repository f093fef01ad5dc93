"""The loaded model: phoneme ids and a style in, a whole sentence of audio out.

The published graph draws no noise: equal input gives equal bytes on one build. It normalises over the whole sentence,
so it cannot run in windows. Inside it rounds the length of each phoneme to whole steps of 600 frames; where the graph
has that value, it becomes an output, and words get marks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuworker.engine import Pcm
from gpuworker.engines.networks import model_file
from gpuworker.engines.networks.model_file import Unusable
from gpuworker.engines.networks.session import open_session, run_session

RATE_HZ: Final = 24_000
#: Names of the phoneme ids in the exports that are published.
_IDS: Final = ("tokens", "input_ids")
_STYLE, _SPEED = "style", "speed"
_OPERATORS: Final = {"Round", "CumSum", "ConvTranspose"}
#: What is quieter than this before the first and behind the last sound of a sentence is cut, but for a moment.
_QUIET: Final = 0.01
_KEPT_FRAMES: Final = RATE_HZ // 20


class Sound(NamedTuple):
    """A sentence."""

    #: float32, shape (frames, 1), in [-1, 1].
    pcm: Pcm
    #: First frame of each id, pads included; empty if the graph does not say.
    starts: Sequence[int]


def check(path: Path) -> None:
    """Check that a file is a whole ONNX file with the graph of a Kokoro model. Raises Unusable."""
    found = model_file.outline(path)
    is_kokoro = any(found.inputs == {ids, _STYLE, _SPEED} for ids in _IDS) and found.operators >= _OPERATORS
    if not is_kokoro:
        named = ", ".join(sorted(found.inputs))[:200] or "none"
        raise Unusable(
            f"{path.name} is not a Kokoro model: its inputs are {named}; a model has tokens or input_ids, style, speed"
        )


class Network:
    """One session of onnxruntime on one device. Constant after construction."""

    def __init__(self, path: Path, device: str) -> None:
        """Read the model, a second or two for 90 MB. Raises Unusable."""
        graph, self._lengths = _with_lengths(path)
        try:
            self._session = open_session(graph, device)
        except Exception as error:
            raise Unusable(f"{path.name} cannot be loaded: {type(error).__name__}: {str(error)[:500]}") from error
        inputs = {each.name: each.type for each in self._session.get_inputs()}
        self._ids = next(name for name in _IDS if name in inputs)
        self._output = self._session.get_outputs()[0].name
        if inputs[_SPEED] != "tensor(float)":
            raise Unusable(f"{path.name}: its speed is {inputs[_SPEED]}, not a float, so that only whole speeds exist")

    @property
    def has_lengths(self) -> bool:
        """Whether the graph says how long each phoneme is."""
        return bool(self._lengths)

    def speak(self, ids: Sequence[int], style: NDArray[np.float32], speed: float) -> Sound:
        """A sentence of at most `vocabulary.MAX_IDS` ids. Raises OutOfMemory."""
        inputs = {
            self._ids: np.array([[0, *ids, 0]], np.int64),
            _STYLE: style.reshape(1, -1),
            _SPEED: np.array([speed], np.float32),
        }
        audio, *lengths = run_session(self._session, [self._output, *filter(None, [self._lengths])], inputs)
        pcm = audio.reshape(-1, 1).clip(-1, 1).astype(np.float32)
        starts: list[int] = []
        if lengths:
            steps = lengths[0].reshape(-1)
            ends = np.cumsum(steps) * (len(pcm) / max(1.0, float(steps.sum())))
            starts = [0, *ends[:-1].astype(np.int64).tolist()]
        return _trimmed(pcm, starts)


def _trimmed(pcm: Pcm, starts: Sequence[int]) -> Sound:
    """Without most of the silence around it."""
    loud = np.flatnonzero(np.abs(pcm[:, 0]) > _QUIET)
    if not len(loud):
        return Sound(pcm, starts)
    first, end = max(0, int(loud[0]) - _KEPT_FRAMES), min(len(pcm), int(loud[-1]) + 1 + _KEPT_FRAMES)
    last = end - first - 1
    return Sound(pcm[first:end], [min(last, max(0, start - first)) for start in starts])


def _with_lengths(path: Path) -> tuple[bytes, str]:
    """The model with the lengths of its phonemes as a further output, and the name of that; "" if it has none.

    They are what is rounded, and then kept from falling below one.
    """
    import onnx  # noqa: PLC0415

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise Unusable(f"{path.name} cannot be read as ONNX: {type(error).__name__}: {error}") from error
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "Round"}
    clipped: list[Any] = [node for node in model.graph.node if node.op_type == "Clip" and node.input[0] in rounded]
    if len(clipped) != 1:
        return path.read_bytes(), ""
    name = str(clipped[0].output[0])
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString(), name
