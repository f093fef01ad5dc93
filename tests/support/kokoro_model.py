"""A Kokoro model with random weights: small, but with the inputs, the output and the lengths of the published ones."""

import functools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from gpuworker import registry
from gpuworker.engine import MemoryPolicy
from gpuworker.engines.kokoro.engine import Kokoro
from gpuworker.engines.kokoro.vocabulary import MAX_IDS
from tests.support.piper_voice import Builder

#: Audio frames of a step; a phoneme lasts whole steps.
HOP = 600
_HIDDEN, _STYLE, _SYMBOLS = 8, 256, 178


def model(seed: int = 0, ids: str = "tokens", *, has_lengths: bool = True) -> ModelProto:
    """The graph. `ids` is the name of its first input; without `has_lengths` they are not to be found in it."""
    made = Builder(seed)
    for name, value in (("axis0", [0]), ("axis1", [1]), ("axis2", [2]), ("flat", [-1])):
        made.constant(name, np.array(value, np.int64))
    style = made.node("MatMul", "/style", ["style", made.random("style.weight", (_STYLE, _HIDDEN), 0.3)])
    x = made.node("Gather", "/emb", [made.random("emb.weight", (_SYMBOLS, _HIDDEN), 4), ids])
    x = made.node("Tanh", "/encoder/Tanh", [made.node("Add", "/encoder/Add", [x, style])])
    lengths = _lengths(made, x, has_lengths=has_lengths)
    path = _path(made, lengths)
    of_steps = made.node("MatMul", "/align", [path, made.node("Squeeze", "/encoder/Squeeze", [x, "axis0"])])
    column = made.node("Unsqueeze", "/column", [made.node("Transpose", "/turn", [of_steps], perm=[1, 0]), "axis0"])
    weight = made.random("decoder.weight", (_HIDDEN, 1, HOP), 3.0)
    audio = made.node("ConvTranspose", "/decoder/ConvTranspose", [column, weight], strides=[HOP])
    made.nodes.append(
        helper.make_node("Reshape", [made.node("Tanh", "/decoder/Tanh", [audio]), "flat"], ["audio"], name="/out")
    )
    inputs = [
        helper.make_tensor_value_info(ids, TensorProto.INT64, [1, "sequence_length"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, _STYLE]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    output = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["audio_length"])
    graph = helper.make_graph(made.nodes, "main_graph", inputs, [output], made.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def _lengths(made: Builder, x: str, *, has_lengths: bool) -> str:
    """Steps of each id, (ids): one to five at normal speed."""
    raw = made.node("MatMul", "/duration", [x, made.random("duration.weight", (_HIDDEN, 1), 0.5)])
    share = made.node("Sigmoid", "/duration/Sigmoid", [made.node("Reshape", "/duration/Reshape", [raw, "flat"])])
    steps = made.node("Mul", "/duration/Mul", [share, made.constant("five", np.float32(5))])
    rounded = made.node("Round", "/encoder/Round", [made.node("Div", "/encoder/Div", [steps, "speed"])])
    one = made.constant("one", np.float32(1))
    return made.node("Clip" if has_lengths else "Max", "/encoder/Clip", [rounded, one])


def _path(made: Builder, lengths: str) -> str:
    """One where a step belongs to an id, (steps, ids)."""
    ends = made.node("CumSum", "/encoder/CumSum", [lengths, made.constant("first", np.int64(0))])
    begins = made.node("Sub", "/encoder/Sub", [ends, lengths])
    total = made.node("Cast", "/total", [made.node("ReduceSum", "/sum", [lengths], keepdims=0)], to=TensorProto.INT64)
    zero, step = made.constant("zero", np.int64(0)), made.constant("step", np.int64(1))
    steps = made.node("Cast", "/steps", [made.node("Range", "/range", [zero, total, step])], to=TensorProto.FLOAT)
    at = made.node("Unsqueeze", "/at", [steps, "axis1"])
    before = [
        made.node("Cast", f"/cast{index}", [made.node("Less", f"/less{index}", [at, edge])], to=TensorProto.FLOAT)
        for index, edge in enumerate((ends, begins))
    ]
    return made.node("Sub", "/path", before)


def styles(seed: int) -> Any:
    """The array of a voice."""
    return np.random.default_rng(seed).standard_normal((MAX_IDS, 1, _STYLE)).astype(np.float32)


def write(folder: Path, voices: Mapping[str, Any] | None = None, **about: Any) -> Path:
    """Write a model with its voices beside it, and return the path of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kokoro.onnx"
    path.write_bytes(model(**about).SerializeToString())
    named = voices if voices is not None else {"af_random": styles(1), "am_other": styles(2), "ef_random": styles(3)}
    np.savez(folder / "voices.npz", **named)
    return path


@functools.cache
def random_model() -> Path:
    """A model with two American voices and a Spanish one; made once per process."""
    return write(Path(tempfile.mkdtemp(prefix="kokoro-")))


def made(model: Path, **options: object) -> Kokoro:
    """An engine as a worker makes it."""
    engine = registry.make("kokoro", {"model": str(model), **options})
    assert isinstance(engine, Kokoro)
    return engine


def loaded(engine: Kokoro) -> Iterator[Kokoro]:
    """The engine, loaded; unloaded at the end."""
    engine.load("cpu", MemoryPolicy())
    yield engine
    engine.unload()
