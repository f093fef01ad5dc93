"""What an ACE-Step client asks for: three kinds of body, several names for a field, and fields within fields."""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from bus.errors import Invalid, Malformed
from bus.fleet.messages import ModelCard
from bus.params import short
from gateway.access.authenticator import NO_TENANT
from gateway.access.caller import CALLER, caller
from gateway.http.rate_limit_headers import GRANTED, makes_work
from gateway.http.services import AUTHENTICATOR, LIMITER

#: Other names of a field. Looked for in the body, then in `param_obj`, then in the metas.
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
#: Their field for a parameter that an engine of ours calls otherwise.
THEIRS: Final[Mapping[str, str]] = {"seconds": "audio_duration", "duration": "audio_duration", "key": "key_scale"}
#: Fields whose engines' words for "you decide" are 0 and -1.
_POSITIVE: Final = frozenset({"audio_duration", "bpm"})
_TRUE: Final = frozenset({"1", "true", "yes", "y", "on"})
#: Their field for the key, beside the header.
_KEY: Final = "ai_token"
#: Where a client may put its key, for the refusal of a request without one.
_KEY_PLACES: Final = f"`Authorization: Bearer KEY` or as `{_KEY}`"
#: How long a body may take of which nobody knows yet whether it has a key: else strangers could fill our memory.
_STRANGER_S: Final = 10.0
#: What aiohttp raises for a form that is none, beside its own HTTP errors.
_NO_FORM: Final = (ValueError, LookupError, RuntimeError, AssertionError, BadHttpMessage)


class Fields:
    """One request's fields under their first names."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        metas = next((raw[name] for name in _METAS if raw.get(name)), None)
        self._sources = [raw, _inner("param_obj", raw.get("param_obj")), _inner("metas", metas)]

    def get(self, name: str) -> Any:
        """None if it is not there, or empty."""
        for source in self._sources:
            for alias in (name, *_ALIASES.get(name, ())):
                value = source.get(alias)
                if value is not None and value != "":
                    return value
        return None

    def text(self, name: str, default: str = "") -> str:
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, str):
            return value
        raise Invalid(f"{name}: must be text, not {_shown(value)}", name)

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        return str(value).strip().lower() in _TRUE

    def number(self, name: str) -> float | int | None:
        """A number, or text that is one. Raises Invalid."""
        value = self.get(name)
        if value is None or value == "null":  # a form has no other word for it
            return None
        number = _number(value)
        if number is None:
            raise Invalid(f"{name}: must be a number, not {_shown(value)}", name)
        return None if name in _POSITIVE and number <= 0 else number

    def whole(self, name: str, least: int, most: int) -> int | None:
        number = self.number(name)
        if number is not None and not (least <= number <= most and number == int(number)):
            raise Invalid(f"{name}: must be a whole number from {least} to {most}, not {_shown(self.get(name))}", name)
        return None if number is None else int(number)

    def params(self, card: ModelCard) -> dict[str, Any]:
        """Whatever the engine has a parameter for; then `params`, ours, in the engine's own words."""
        found: dict[str, Any] = {}
        properties: Mapping[str, Mapping[str, Any]] = card.param_schema.get("properties", {})
        for param, schema in properties.items():
            name = THEIRS.get(param, param)
            value = self._of_kind(name, schema.get("type"))
            if value is not None:
                found[param] = value
        return found | _inner("params", self._sources[0].get("params"))

    def _of_kind(self, name: str, kind: Any) -> Any:
        if kind == "number":
            return self.number(name)
        if kind == "integer":
            return self.whole(name, -(2**53), 2**53)
        if kind == "boolean":
            return None if self.get(name) is None else self.flag(name, default=False)
        return self.get(name)

    def seeds(self, count: int, random: Iterable[int]) -> list[int]:
        """A seed for each of `count` pieces: those given, then the next ones; all of `random` unless it is off."""
        given = self.get("seed")
        if self.flag("use_random_seed", default=True) or given in (None, -1, "-1"):
            return [seed for seed, _ in zip(random, range(count), strict=False)]
        listed = given if isinstance(given, list) else str(given).split(",")
        try:
            seeds = [int(str(seed)) for seed in listed][:count]
        except ValueError:
            raise Invalid(f"seed: must be a whole number or several with commas, not {_shown(given)}", "seed") from None
        return seeds + [seeds[-1] + n for n in range(1, count - len(seeds) + 1)]


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    try:
        number: float | int = msgspec.convert(value, float | int, strict=False)
    except msgspec.ValidationError:
        return None
    return number if math.isfinite(number) else None


def _inner(name: str, value: Any) -> dict[str, Any]:
    """An object within a field, which may be written as text."""
    if isinstance(value, str) and value.strip():
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"{name}: is text that is no JSON: {error}", name) from None
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"{name}: must be an object, not {_shown(value)}", name)
    return value


def _shown(value: Any) -> str:
    return short(repr(value))


async def read(request: web.Request) -> tuple[dict[str, Any], list[str]]:
    """A body's fields, and the names of the files in it. Its key is taken out, and says who asks from here on.

    Raises Malformed; HTTPUnsupportedMediaType; HTTPRequestEntityTooLarge; Unauthorized, Forbidden, TooMany.
    """
    try:
        async with asyncio.timeout(_STRANGER_S if caller(request).tenant == NO_TENANT else None):
            raw, files = await _fields(request)
    except (Malformed, web.HTTPException, TimeoutError):
        _identify(request, "")
        raise
    key = raw.pop(_KEY, "")
    _identify(request, key.strip() if isinstance(key, str) else "")
    return raw, files


def _identify(request: web.Request, key: str) -> None:
    """Set the request's caller anew, and count it against the limits of a key that nobody knew of before."""
    before = caller(request)
    request[CALLER] = asks = request.app[AUTHENTICATOR].authenticate_body(request, key, _KEY_PLACES)
    if asks.key == before.key or not makes_work(request):
        return
    granted = request.app[LIMITER].requests.grant(
        msgspec.structs.replace(asks, address="")
    )  # whose address has been counted
    if granted is not None:
        request[GRANTED] = granted


async def _fields(request: web.Request) -> tuple[dict[str, Any], list[str]]:
    kind = request.content_type
    data = await request.read() if kind != "multipart/form-data" else b""
    # `curl -d '{…}'` says that its JSON is a form.
    if kind in {"application/json", "application/octet-stream"} or data.lstrip().startswith(b"{"):
        return _object(data), []
    if kind not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise web.HTTPUnsupportedMediaType(reason=f"{short(kind)} is none of JSON, multipart and urlencoded forms")
    try:
        form = await request.post()
    except web.HTTPException:
        raise
    except _NO_FORM as error:
        raise Malformed(f"the body is no {kind}: {error}") from error
    files = [name for name, value in form.items() if not isinstance(value, str)]
    return {name: value for name, value in form.items() if isinstance(value, str)}, files


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Malformed(f"the body is JSON, but not an object: {_shown(value)}")
    return value
