"""Cuts the graph of a Piper voice into three: phonemes to prior, prior to latent, latent to audio.

The published graph draws its noise inside, from a generator without a seed, and makes a sentence in one go. Cut, the
noise is an input, the length of a sentence is known from the first part, and the last part runs in windows.

Everything is found by the structure of the graph, not by names, which differ between exports.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

from gpuworker.engines.networks.model_file import Unusable

#: Inputs that replace the noise of the published graph: of the phonemes' lengths, (1, 2, phonemes).
LENGTH_NOISE: Final = "length_noise"
#: The published inputs: phoneme ids, their number, (variation, 1 / speed, rhythm), and the speaker's number.
IDS, NUM_IDS, SCALES, SPEAKER = "input", "input_lengths", "scales", "sid"


@dataclass(frozen=True, slots=True)
class Graphs:
    """The three parts, as ONNX files in memory, and the names of the values between them."""

    #: IDS, NUM_IDS, SCALES, LENGTH_NOISE, SPEAKER → mean, deviation, mask, lengths.
    text: bytes
    #: joined, mask, SPEAKER → latent.
    flow: bytes
    #: latent, SPEAKER → audio.
    vocoder: bytes
    mean: str
    deviation: str
    mask: str
    #: Latent frames of each phoneme.
    lengths: str
    #: The mean plus noise times deviation and variation.
    joined: str
    latent: str
    #: Frames of audio that a latent frame becomes.
    hop: int
    #: Latent frames on either side that decide the audio of one, and joined ones that decide a latent one.
    context: int
    flow_context: int
    has_speakers: bool


def cut(path: Path) -> Graphs:
    """Read and cut a voice; about a second for 60 MB. Raises Unusable for a graph that is no Piper voice."""
    import onnx  # noqa: PLC0415

    try:
        model = onnx.load(str(path), load_external_data=False)
        return _Cutter(model).cut()
    except Unusable as error:
        raise Unusable(f"{path.name} is not a Piper voice: {error}") from error
    except Exception as error:
        raise Unusable(f"{path.name} cannot be read as ONNX: {type(error).__name__}: {error}") from error


class _Cutter:
    """One graph: which node makes each value, and which nodes take it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._graph = model.graph
        self._made = {name: node for node in self._graph.node for name in node.output}
        self._taken: dict[str, list[Any]] = {}
        for node in self._graph.node:
            for name in node.input:
                self._taken.setdefault(name, []).append(node)
        self._weights = {each.name: each for each in self._graph.initializer}
        self._has_speakers = any(each.name == SPEAKER for each in self._graph.input)

    def cut(self) -> Graphs:
        noise_of_lengths, noise_of_prior = self._noises()
        mean = noise_of_prior.input[0]
        deviation, joined = self._joint(noise_of_prior.output[0], mean)
        latent = self._vocoder_input()
        mask = self._made_by("Cast", self._made[latent].input, "the mask of the latent")
        lengths = self._made_by("Ceil", (node.input[0] for node in self._nodes("CumSum")), "the lengths of phonemes")
        for node in self._taken[noise_of_lengths.output[0]]:
            for index, name in enumerate(node.input):
                if name == noise_of_lengths.output[0]:
                    node.input[index] = LENGTH_NOISE
        hop, radius = _reach(self._graph, self._weights, latent, self._graph.output[0].name)
        scale, flow_radius = _reach(self._graph, self._weights, joined, latent)
        if scale != 1:
            raise Unusable("its flow changes the number of frames")
        speaker = [SPEAKER] if self._has_speakers else []
        return Graphs(
            text=self._part([IDS, NUM_IDS, SCALES, LENGTH_NOISE, *speaker], [mean, deviation, mask, lengths]),
            flow=self._part([joined, mask, *speaker], [latent]),
            vocoder=self._part([latent, *speaker], [self._graph.output[0].name]),
            mean=mean,
            deviation=deviation,
            mask=mask,
            lengths=lengths,
            joined=joined,
            latent=latent,
            hop=hop,
            context=ceil(radius),
            flow_context=ceil(flow_radius),
            has_speakers=self._has_speakers,
        )

    def _nodes(self, operator: str) -> list[Any]:
        return [node for node in self._graph.node if node.op_type == operator]

    def _noises(self) -> tuple[Any, Any]:
        """The nodes that draw the noise of the lengths, whose shape is made up, and of the prior."""
        drawn = self._nodes("RandomNormalLike")
        free = [node for node in drawn if self._made[node.input[0]].op_type == "ConstantOfShape"]
        like = [node for node in drawn if node not in free]
        if len(free) != 1 or len(like) != 1:
            raise Unusable(f"it draws noise in {len(drawn)} places instead of two")
        return free[0], like[0]

    def _joint(self, noise: str, mean: str) -> tuple[str, str]:
        """The deviation that the prior's noise is multiplied with, and the sum of both with the mean."""
        value, deviation = noise, ""
        for _ in range(4):
            (node, *others) = self._taken.get(value, [None])
            if node is None or others or node.op_type not in {"Mul", "Add"}:
                break
            other = next(name for name in node.input if name != value)
            value = node.output[0]
            if node.op_type == "Add" and other == mean and deviation:
                return deviation, value
            deviation = deviation or other
        raise Unusable("its noise is not added to a mean")

    def _vocoder_input(self) -> str:
        """The value that the vocoder's first convolution takes: the last one that a mask has multiplied."""
        at = self._graph.output[0].name
        latent = ""
        while at in self._made:
            node = self._made[at]
            if node.op_type == "Conv":
                latent = node.input[0]
            if node.op_type == "Mul" and latent == at and any(self._is_mask(name) for name in node.input):
                return latent
            at = node.input[0]
        raise Unusable("it has no vocoder")

    def _is_mask(self, name: str) -> bool:
        return name in self._made and self._made[name].op_type == "Cast"

    def _made_by(self, operator: str, names: Iterable[str], noun: str) -> str:
        found = [name for name in names if name in self._made and self._made[name].op_type == operator]
        if len(found) != 1:
            raise Unusable(f"{noun}: {len(found)} candidates instead of one")
        return found[0]

    def _part(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """The nodes that make `outputs` of `inputs`, with their weights, as a model of its own."""
        from onnx import TensorProto, helper  # noqa: PLC0415

        needed, waiting = set(), list(outputs)
        used: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in used or name in inputs:
                continue
            used.add(name)
            if name in self._made:
                node = self._made[name]
                needed.add(node.output[0])
                waiting += [each for each in node.input if each]
            elif name not in self._weights:
                raise Unusable(f"{name} is not known where the graph is cut")
        kinds = {IDS: TensorProto.INT64, NUM_IDS: TensorProto.INT64, SPEAKER: TensorProto.INT64}

        def described(names: Iterable[str]) -> list[Any]:
            return [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in names]

        part = helper.make_graph(
            [node for node in self._graph.node if node.output[0] in needed],
            "part",
            described(inputs),
            described(outputs),
            [weight for name, weight in self._weights.items() if name in used],
        )
        model = helper.make_model(part, opset_imports=list(self._model.opset_import), ir_version=self._model.ir_version)
        found: bytes = model.SerializeToString()
        return found


def _reach(graph: Any, weights: Mapping[str, Any], source: str, target: str) -> tuple[int, float]:
    """Frames of `target` for each frame of `source`, and how many of these on either side decide it."""
    scales = {source: 1}
    radii = {source: 0.0}
    for node in graph.node:  # in topological order, as ONNX demands
        known = [name for name in node.input if name in scales]
        if not known:
            continue
        scale = max(scales[name] for name in known)
        radius = max(radii[name] for name in known)
        if node.op_type in {"Conv", "ConvTranspose"}:
            attributes = {each.name: each for each in node.attribute}
            width = weights[node.input[1]].dims[2]
            if node.op_type == "Conv":
                dilation = attributes["dilations"].ints[0] if "dilations" in attributes else 1
                radius += (width - 1) * dilation / 2 / scale
            else:
                stride = attributes["strides"].ints[0]
                radius += (width + stride) / 2 / stride / scale
                scale *= stride
        for name in node.output:
            scales[name] = scale
            radii[name] = radius
    return scales[target], radii[target]
