"""A Piper voice with random weights: small, but with the parts, operators and names of the published ones."""

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

RATE_HZ = 22_050
#: Audio frames of a latent frame.
HOP = 256
_HIDDEN, _LATENT, _SYMBOLS = 16, 8, 256
_PHONEMES = "_^$ !'(),-.:;?abcdefhijklmnopqrstuvwxyzæçðøħŋœɐɑɒɓɔɕɖɗɘəɚɛɜɞɟɠɡɢɣɤɥɦɧɨɪɫɬɭɮɯɰɱɲɳɴɵɶɸɹɺɻɽɾʀʁʂʃʄʈʉʊʋʌʍʎʏʐʑʒʔʕʘʙʛʜʝʟʡʢʲˈˌːˑ˞βθχᵻⱱ0123456789̧̪̯̩̃ʰˤε"


class Builder:
    """Nodes and weights of one graph."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(seed)

    def node(self, operator: str, name: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Add a node, and return the name of its (first) output."""
        made = [f"{name}_output_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), made, name=name, **attributes))
        return made[0]

    def constant(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def random(self, name: str, shape: Sequence[int], gain: float = 1.0) -> str:
        scale = gain / np.sqrt(np.prod(shape[1:]))
        return self.constant(name, (self._random.standard_normal(shape) * scale).astype(np.float32))

    def conv(
        self, name: str, x: str, channels: tuple[int, int], width: int, *, dilation: int = 1, gain: float = 1.0
    ) -> str:
        """A convolution as long as its input; `channels` are those that go in and come out."""
        weight = self.random(
            f"{name[1:].replace('/', '.').removesuffix('.Conv')}.weight", (*channels[::-1], width), gain
        )
        pad = (width - 1) * dilation // 2
        return self.node("Conv", name, [x, weight], dilations=[dilation], pads=[pad, pad], kernel_shape=[width])

    def up(self, name: str, x: str, channels: tuple[int, int], stride: int) -> str:
        """A convolution that makes `stride` frames of one."""
        weight = self.random(f"{name[1:].replace('/', '.')}.weight", (*channels, 2 * stride), stride**0.5)
        pad = stride // 2
        return self.node("ConvTranspose", name, [x, weight], strides=[stride], pads=[pad, pad])


def model(seed: int = 0, speakers: int = 1) -> ModelProto:
    """The graph of a voice."""
    made = Builder(seed)
    speaker = ""
    if speakers > 1:
        table = made.random("emb_g.weight", (speakers, _HIDDEN), 2.0)
        speaker = made.node(
            "Unsqueeze", "/Unsqueeze_g", [made.node("Gather", "/emb_g/Gather", [table, "sid"]), "axis2"]
        )
    for name, axis in (("axis0", 0), ("axis1", 1), ("axis2", 2)):
        made.constant(name, np.array([axis], np.int64))
    scales = [
        made.node("Gather", f"/Gather_{at}", ["scales", made.constant(f"scale{at}", np.int64(at))]) for at in range(3)
    ]
    latent = _flow(made, *_prior(made, scales, speaker))
    _vocoder(made, latent, speaker)
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    if speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, ["batch"]))
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph(made.nodes, "torch_jit", inputs, [output], made.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def _prior(made: Builder, scales: Sequence[str], speaker: str) -> tuple[str, str]:
    """Text encoder, lengths, and the prior with its noise: (joined, mask)."""
    table = made.random("enc_p.emb.weight", (_SYMBOLS, _HIDDEN), 4)
    x = made.node("Gather", "/enc_p/emb/Gather", [table, "input"])
    x = made.node("Transpose", "/enc_p/Transpose", [x], perm=[0, 2, 1])
    x = made.node("Tanh", "/enc_p/Tanh", [made.conv("/enc_p/conv/Conv", x, (_HIDDEN, _HIDDEN), 3)])
    if speaker:
        x = made.node("Add", "/dp/cond/Add", [x, speaker])
    made.node("Split", "/enc_p/Split", [made.conv("/enc_p/proj/Conv", x, (_HIDDEN, 2 * _LATENT), 1)], outputs=2, axis=1)
    lengths = _lengths(made, x, scales)
    steps, mask = _mask(made, lengths)
    path = _path(made, lengths, steps)
    mean, logarithm = (_spread(made, path, index) for index in range(2))
    deviation = made.node("Exp", "/Exp_1", [logarithm])
    noise = made.node("Mul", "/Mul_5", [made.node("RandomNormalLike", "/RandomNormalLike", [mean]), deviation])
    return made.node("Add", "/Add", [mean, made.node("Mul", "/Mul_6", [noise, scales[0]])]), mask


def _lengths(made: Builder, x: str, scales: Sequence[str]) -> str:
    """Latent frames of each phoneme id, (1, 1, ids)."""
    count = made.node("Shape", "/dp/Shape", ["input"], start=1, end=2)
    shape = made.node("Concat", "/dp/Concat", [made.constant("one_two", np.array([1, 2], np.int64)), count], axis=0)
    zeros = made.node("ConstantOfShape", "/dp/ConstantOfShape", [shape])
    noise = made.node("Mul", "/dp/Mul", [made.node("RandomNormalLike", "/dp/RandomNormalLike", [zeros]), scales[2]])
    noise = made.node("ReduceMean", "/dp/ReduceMean", [noise], axes=[1], keepdims=1)
    logarithm = made.node("Add", "/dp/Add", [made.conv("/dp/proj/Conv", x, (_HIDDEN, 1), 1), noise])
    return made.node("Ceil", "/Ceil", [made.node("Mul", "/Mul_1", [made.node("Exp", "/Exp", [logarithm]), scales[1]])])


def _mask(made: Builder, lengths: str) -> tuple[str, str]:
    """The numbers of the latent frames, and ones for all of them: (1, 1, frames)."""
    axes = made.constant("axes12", np.array([1, 2], np.int64))
    total = made.node("ReduceSum", "/ReduceSum", [lengths, axes], keepdims=0)
    frames = made.node("Cast", "/Cast", [total], to=TensorProto.INT64)
    most = made.node("ReduceMax", "/ReduceMax", [frames], keepdims=0)
    steps = made.node("Range", "/Range", [made.constant("zero", np.int64(0)), most, made.constant("step", np.int64(1))])
    row = made.node("Unsqueeze", "/Unsqueeze", [steps, "axis0"])
    within = made.node("Less", "/Less", [row, made.node("Unsqueeze", "/Unsqueeze_1", [frames, "axis1"])])
    within = made.node("Unsqueeze", "/Unsqueeze_2", [within, "axis1"])
    return steps, made.node("Cast", "/Cast_2", [within], to=TensorProto.FLOAT)


def _path(made: Builder, lengths: str, steps: str) -> str:
    """One where a latent frame belongs to an id, (1, frames, ids)."""
    ends = made.node("CumSum", "/CumSum", [lengths, made.constant("last", np.int64(2))])
    begins = made.node("Sub", "/Sub", [ends, lengths])
    at = made.node("Unsqueeze", "/Unsqueeze_4", [made.node("Cast", "/Cast_3", [steps], to=TensorProto.FLOAT), "axis0"])
    at = made.node("Unsqueeze", "/Unsqueeze_5", [at, "axis2"])
    before = []
    for index, edge in enumerate((ends, begins)):
        less = made.node("Less", f"/Less_path_{index}", [at, edge])
        before.append(made.node("Cast", f"/Cast_path_{index}", [less], to=TensorProto.FLOAT))
    return made.node("Sub", "/Sub_1", before)


def _spread(made: Builder, path: str, index: int) -> str:
    """The encoder's output `index`, of each id, over the id's latent frames."""
    of_ids = made.node("Transpose", f"/Transpose_{2 + 2 * index}", [f"/enc_p/Split_output_{index}"], perm=[0, 2, 1])
    of_frames = made.node("MatMul", f"/MatMul_{index}", [path, of_ids])
    return made.node("Transpose", f"/Transpose_{3 + 2 * index}", [of_frames], perm=[0, 2, 1])


def _flow(made: Builder, joined: str, mask: str) -> str:
    half = _LATENT // 2
    parts = [
        made.node(
            "Slice",
            f"/flow/flows.0/Slice_{index}",
            [
                joined,
                made.constant(f"from{index}", np.array([index * half], np.int64)),
                made.constant(f"to{index}", np.array([(index + 1) * half], np.int64)),
                "axis1",
            ],
        )
        for index in range(2)
    ]
    shift = made.node(
        "Mul", "/flow/flows.0/Mul", [made.conv("/flow/flows.0/post/Conv", parts[0], (half, half), 5), mask]
    )
    whole = made.node(
        "Concat", "/flow/flows.0/Concat", [parts[0], made.node("Sub", "/flow/flows.0/Sub", [parts[1], shift])], axis=1
    )
    return made.node("Mul", "/Mul_7", [whole, mask])


def _vocoder(made: Builder, latent: str, speaker: str) -> None:
    x = made.conv("/dec/conv_pre/Conv", latent, (_LATENT, _HIDDEN), 7)
    if speaker:
        x = made.node("Add", "/dec/Add", [x, made.conv("/dec/cond/Conv", speaker, (_HIDDEN, _HIDDEN), 1)])
    for index, stride in enumerate((8, 8, 4)):
        x = made.node("LeakyRelu", f"/dec/LeakyRelu_{index}", [x], alpha=0.1)
        x = made.up(f"/dec/ups.{index}/ConvTranspose", x, (_HIDDEN, _HIDDEN), stride)
        inner = made.conv(f"/dec/resblocks.{index}/convs.0/Conv", x, (_HIDDEN, _HIDDEN), 5, dilation=3)
        x = made.node("Add", f"/dec/resblocks.{index}/Add", [inner, x])
    audio = made.node("Tanh", "/dec/Tanh", [made.conv("/dec/conv_post/Conv", x, (_HIDDEN, 1), 7, gain=0.2)])
    made.nodes.append(helper.make_node("Unsqueeze", [audio, "axis1"], ["output"], name="/Unsqueeze_11"))


def config(language: str = "en-us", rate_hz: int = RATE_HZ, speakers: Sequence[str] = ()) -> dict[str, Any]:
    """The description that is published beside a voice."""
    return {
        "audio": {"sample_rate": rate_hz, "quality": "test"},
        "espeak": {"voice": language},
        "phoneme_type": "espeak",
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_id_map": {symbol: [index] for index, symbol in enumerate(_PHONEMES)},
        "num_symbols": _SYMBOLS,
        "num_speakers": max(1, len(speakers)),
        "speaker_id_map": {name: index for index, name in enumerate(speakers)},
        "language": {"code": language.replace("-", "_")},
    }


def write(folder: Path, name: str, *, seed: int = 0, speakers: Sequence[str] = (), **about: Any) -> Path:
    """Write a voice, and return the path of its model file."""
    path = folder / f"{name}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model(seed, max(1, len(speakers))).SerializeToString())
    Path(f"{path}.json").write_text(json.dumps(config(speakers=speakers, **about)))
    return path


@functools.cache
def random_voices() -> Path:
    """A folder with a voice of one speaker, one of two, a German and a Chuvash one; made once per process."""
    folder = Path(tempfile.mkdtemp(prefix="piper-voices-"))
    write(folder, "en_US-random-low")
    write(folder, "en_US-two-low", seed=1, speakers=("ann", "bob"))
    write(folder, "de_DE-random-low", seed=2, language="de")
    write(folder, "cv_RU-random-low", seed=2, language="cv")
    return folder
