"""A voice whose publisher means harm is refused when it is read, by one line that names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from gpuworker.engines.networks.model_file import Unusable
from gpuworker.engines.piper.voices import read
from tests.support import piper_voice


def change(path: Path, **values: object) -> None:
    about = Path(f"{path}.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), **values}))


def deep_json(path: Path) -> None:
    Path(f"{path}.json").write_text("[" * 200_000)


def weights_elsewhere(path: Path) -> None:
    model = onnx.load(str(path))
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../../../etc/passwd")
    onnx.save(model, str(path))


def escapes_in_a_name(path: Path) -> None:
    change(path, speaker_id_map={"\x1b[31m": 0})


def language_that_is_none(path: Path) -> None:
    change(path, language={"code": [1]})


def endless_words(path: Path) -> None:
    change(path, num_speakers="x" * 100_000)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (deep_json, r"bad\.onnx\.json is not JSON: maximum recursion depth"),
        (weights_elsewhere, r"bad\.onnx has weights in another file, which are not read"),
        (escapes_in_a_name, r"bad\.onnx\.json: speaker_id_map has '\\x1b\[31m'"),
        (language_that_is_none, r"bad\.onnx\.json: language\.code has '\[1\]'"),
        (endless_words, r"bad\.onnx\.json: num_speakers is 'x{400,480}…"),
    ],
)
def test_it_is_not_usable(tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    path = piper_voice.write(tmp_path, "bad")
    damage(path)
    with pytest.raises(Unusable, match=reason) as refusal:
        read(path)
    assert len(str(refusal.value)) <= 501
