"""The files of the engine `kokoro`: which are a model or a voice, and what is said about the others."""

import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gpuworker import registry
from gpuworker.conformance.driving import checked, run
from gpuworker.engine import EngineJob, MemoryPolicy, Rejected
from tests.engines.texts import STORY
from tests.support import kokoro_model
from tests.support.kokoro_model import loaded, made, styles


def shaped(**arrays: Any) -> Callable[[Path], object]:
    return lambda folder: np.savez(folder / "voices.npz", **arrays)


def cut_short(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1000])


def filled(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def another_model(folder: Path) -> None:
    named = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", named[:1], named[1:])
    onnx.save(helper.make_model(graph), str(folder / "kokoro.onnx"))


def whole_speeds(folder: Path) -> None:
    model = onnx.load(str(folder / "kokoro.onnx"))
    (speed,) = [each for each in model.graph.input if each.name == "speed"]
    speed.type.tensor_type.elem_type = TensorProto.INT32
    (div,) = [node for node in model.graph.node if node.name == "/encoder/Div"]
    model.graph.node.insert(0, helper.make_node("Cast", ["speed"], ["speed_float"], to=TensorProto.FLOAT))
    div.input[1] = "speed_float"
    onnx.save(model, str(folder / "kokoro.onnx"))


def strange_operator(folder: Path) -> None:
    model = onnx.load(str(folder / "kokoro.onnx"))
    (node,) = [node for node in model.graph.node if node.name == "/encoder/Add"]
    node.op_type = "NoSuchOperator"
    onnx.save(model, str(folder / "kokoro.onnx"))


def pickled(folder: Path) -> None:
    np.savez(folder / "voices.npz", af_bad=np.array([{"a": 1}], dtype=object))


def bomb(folder: Path) -> None:
    with zipfile.ZipFile(folder / "voices.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("af_bomb.npy", bytes(5 << 20))


def crowd(folder: Path) -> None:
    with zipfile.ZipFile(folder / "voices.npz", "w") as archive:
        for number in range(1001):
            archive.writestr(f"a{number}.npy", b"")


NAN = styles(1) * np.float32("nan")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "kokoro.onnx").unlink(), r"kokoro\.onnx cannot be read: No such file"),
        (cut_short("kokoro.onnx"), r"kokoro\.onnx is not a whole ONNX file: \d+ bytes are missing"),
        (filled("kokoro.onnx", b""), r"kokoro\.onnx is empty"),
        (filled("kokoro.onnx", b"version https://git-lfs.github.com/spec/v1\n"), r"is not a whole ONNX file"),
        (another_model, r"kokoro\.onnx is not a Kokoro model: its inputs are x; a model has tokens"),
        (whole_speeds, r"kokoro\.onnx: its speed is tensor\(int32\), not a float"),
        (strange_operator, r"kokoro\.onnx cannot be loaded: .*NoSuchOperator"),
        (lambda folder: (folder / "voices.npz").unlink(), r"Beside kokoro\.onnx: none; name one with engines\.kokoro"),
        (filled("more.bin", b""), r"Beside kokoro\.onnx: more\.bin, voices\.npz; name one"),
        (cut_short("voices.npz"), r"voices\.npz is not a whole NumPy archive"),
        (filled("voices.npz", b"\x80\x02}q\x00."), r"voices\.npz is not a whole NumPy archive"),
        (pickled, r"voices\.npz is not a whole NumPy archive of voices: Object arrays cannot be loaded"),
        (bomb, r"voices\.npz: af_bomb\.npy has 5242880 bytes, the limit is 4194304"),
        (crowd, r"voices\.npz has 1001 arrays, the limit is 1000"),
        (shaped(), r"voices\.npz has no voice"),
        (
            shaped(af_bad=styles(1)[:, :, :128]),
            r"af_bad is float32 of the shape \(510, 1, 128\), not float32 of \(510, 1",
        ),
        (shaped(af_bad=styles(1)[:100]), r"af_bad is float32 of the shape \(100, 1, 256\)"),
        (shaped(af_bad=styles(1).astype(np.float64)), r"af_bad is float64"),
        (shaped(af_bad=NAN), r"af_bad has a value that is no finite number"),
        (shaped(jf_alpha=styles(1)), r"jf_alpha speaks Japanese, for which Antiphon has no phonemes.*language=en-us"),
        (shaped(xf_other=styles(1)), r"xf_other: the first letter of a voice is its language, one of a, b, e"),
    ],
)
def test_a_file_that_is_none_is_named_when_the_engine_is_loaded(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    path = kokoro_model.write(tmp_path)
    damage(tmp_path)
    with pytest.raises(Exception, match=reason):
        made(path).load("cpu", MemoryPolicy())


def test_a_bad_voice_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = kokoro_model.write(tmp_path, {"af_good": styles(1), "af_bad": styles(2)[:9], "zf_other": styles(3)})
    with caplog.at_level(logging.WARNING):
        for engine in loaded(made(path)):
            assert [voice.id for voice in engine.capabilities().voices] == ["af_good"]
            assert run(engine, EngineJob(id="j", input=STORY)).end_frame
            with pytest.raises(Rejected, match=r"'AF_bad' cannot be used: voices\.npz: af_bad is float32 of the shape"):
                checked(engine, EngineJob(id="j", input="a", voice="AF_bad"))
    assert [record for record in caplog.records if "zf_other" in record.getMessage()]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"default_voice": "af_nowhere"}, r"engines\.kokoro\.default_voice: 'af_nowhere' is not known"),
        ({"voices": "/nowhere/v.npz"}, r"v\.npz cannot be read"),
        ({"model": ""}, r"kokoro has no model: name an ONNX file, .*kokoro\.model=FILE"),
    ],
)
def test_a_wrong_option_is_named(options: Mapping[str, object], reason: str) -> None:
    with pytest.raises(RuntimeError, match=reason):
        registry.make("kokoro", {"model": str(kokoro_model.random_model()), **options}).load("cpu", MemoryPolicy())


def test_one_language_for_all_voices_makes_those_of_others_usable(tmp_path: Path) -> None:
    path = kokoro_model.write(tmp_path, {"jf_alpha": styles(1), "custom": styles(2)})
    voices = made(path, language="en-us").capabilities().voices
    assert [(voice.id, voice.language) for voice in voices] == [("custom", "en-us"), ("jf_alpha", "en-us")]
