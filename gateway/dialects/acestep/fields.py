"""The fields of an ACE-Step request: each has several names, and may be in an object within a field."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.params import short

#: Other names of a field. They are looked up in the body, then in `param_obj`, then in the metas.
_ALIASES: Final[Mapping[str, Sequence[str]]] = {
    "prompt": ("caption",),
    "sample_query": ("sampleQuery", "description", "desc"),
    "model": ("model_name", "modelName", "dit_model", "ditModel"),
    "key_scale": ("keyscale", "keyScale", "key"),
    "time_signature": ("timesignature", "timeSignature"),
    "audio_duration": ("duration", "audioDuration", "target_duration", "targetDuration"),
    "vocal_language": ("vocalLanguage", "language"),
    "inference_steps": ("inferenceSteps",),
    "guidance_scale": ("guidanceScale",),
    "use_random_seed": ("useRandomSeed",),
    "audio_cover_strength": ("audioCoverStrength", "cover_strength", "coverStrength"),
    "audio_code_string": ("audioCodeString", "audio_codes"),
    "reference_audio_path": ("ref_audio_path", "referenceAudioPath", "refAudioPath"),
    "src_audio_path": ("ctx_audio_path", "sourceAudioPath", "srcAudioPath", "ctxAudioPath"),
    "task_type": ("taskType",),
    "infer_method": ("inferMethod",),
    "batch_size": ("batchSize",),
    "audio_format": ("audioFormat",),
}
_METAS: Final = ("metas", "meta", "metadata", "user_metadata", "userMetadata")
#: ACE-Step's field for a param that engines here have under another name.
FIELD_OF_PARAM: Final[Mapping[str, str]] = {
    "seconds": "audio_duration",
    "duration": "audio_duration",
    "key": "key_scale",
    "metre": "time_signature",
}
#: Fields in which 0 and -1 leave the choice to the engine.
_POSITIVE: Final = frozenset({"audio_duration", "bpm"})
#: ACE-Step's time signatures.
_METRES: Final = ("2", "3", "4", "6")
_TRUE: Final = frozenset({"1", "true", "yes", "y", "on"})


class Fields:
    """One request's fields, by their first names. A field that is empty text counts as absent."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Raises Invalid if `param_obj` or the metas are no object."""
        metas = next((body[name] for name in _METAS if body.get(name)), None)
        self._sources = [body, _object_in("param_obj", body.get("param_obj")), _object_in("metas", metas)]

    def get(self, name: str) -> Any:
        """The value as it was sent; None if it is absent."""
        for source in self._sources:
            for alias in (name, *_ALIASES.get(name, ())):
                value = source.get(alias)
                if value is not None and value != "":
                    return value
        return None

    def text(self, name: str, default: str = "") -> str:
        """A string, or `default` if it is absent. Raises Invalid."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, str):
            return value
        raise Invalid(f"{name}: must be text, not {quoted(value)}", name)

    def flag(self, name: str, default: bool) -> bool:
        """A bool, which forms send as text; `default` if it is absent."""
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        return str(value).strip().lower() in _TRUE

    def number(self, name: str) -> float | int | None:
        """A number or its text; None if it is absent or leaves the choice to the engine. Raises Invalid."""
        value = self.get(name)
        if value is None or value == "null":  # forms send null as text
            return None
        number = _number(value)
        if number is None:
            raise Invalid(f"{name}: must be a number, not {quoted(value)}", name)
        return None if name in _POSITIVE and number <= 0 else number

    def integer(self, name: str, least: int, most: int) -> int | None:
        """As `number`; a whole one from `least` to `most`. Raises Invalid."""
        number = self.number(name)
        if number is not None and not (least <= number <= most and number == int(number)):
            raise Invalid(f"{name}: must be a whole number from {least} to {most}, not {quoted(self.get(name))}", name)
        return None if number is None else int(number)

    def params(self, card: ModelCard) -> dict[str, Any]:
        """The engine's params among the fields; those in the field `params`, which is ours, take precedence.

        Raises Invalid.
        """
        found: dict[str, Any] = {}
        properties: Mapping[str, Mapping[str, Any]] = card.param_schema.get("properties", {})
        for param, schema in properties.items():
            value = self._of_type(FIELD_OF_PARAM.get(param, param), schema.get("type"))
            if value is not None:
                found[param] = value
        return found | _object_in("params", self._sources[0].get("params"))

    def _of_type(self, name: str, kind: Any) -> Any:
        """The value of a field as a type of JSON Schema; None if it is absent. Raises Invalid."""
        if name == "time_signature":
            return self._metre(name)
        if kind == "number":
            return self.number(name)
        if kind == "integer":
            return self.integer(name, -(2**53), 2**53)
        if kind == "boolean":
            return None if self.get(name) is None else self.flag(name, default=False)
        return self.get(name)

    def _metre(self, name: str) -> int | None:
        """Beats of a bar: ACE-Step's `2`, `3`, `4`, `6`, or those with what a beat is, `4/4`. Raises Invalid."""
        value = self.get(name)
        if value is None or value == "null":
            return None
        beats = str(value).partition("/")[0].strip()
        if beats not in _METRES:
            raise Invalid(f"{name}: must be one of {', '.join(_METRES)}, not {quoted(value)}", name)
        return int(beats)

    def seeds(self, count: int, random: Iterable[int]) -> list[int]:
        """A seed for each of `count` jobs: those of the request and then their successors, or else `random` ones.

        Raises Invalid.
        """
        given = self.get("seed")
        if self.flag("use_random_seed", default=True) or given in (None, -1, "-1"):
            return [seed for seed, _ in zip(random, range(count), strict=False)]
        listed = given if isinstance(given, list) else str(given).split(",")
        try:
            seeds = [int(str(seed)) for seed in listed][:count]
        except ValueError:
            raise Invalid(
                f"seed: must be a whole number, or several with commas between, not {quoted(given)}", "seed"
            ) from None
        return seeds + [seeds[-1] + n for n in range(1, count - len(seeds) + 1)]


def quoted(value: Any) -> str:
    """A value of a request for an error text, shortened."""
    return short(repr(value))


def _number(value: Any) -> float | int | None:
    """A finite number or the text of one; None for any other value."""
    if isinstance(value, bool):
        return None
    try:
        number: float | int = msgspec.convert(value, float | int, strict=False)
    except msgspec.ValidationError:
        return None
    return number if math.isfinite(number) else None


def _object_in(name: str, value: Any) -> dict[str, Any]:
    """An object in a field, which may be sent as text; empty if it is absent. Raises Invalid."""
    if isinstance(value, str) and value.strip():
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"{name}: is text that is not JSON: {error}", name) from None
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"{name}: must be an object, not {quoted(value)}", name)
    return value
