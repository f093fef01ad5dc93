"""The part of a request that is the same for every engine which reads plain text."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bus import ssml
from gpuworker.engine import EngineJob, Rejected, check_text

MAX_INPUT_CHARS: Final = 200_000
#: Properties of the JSON Schema of `params`, by name.
PROPERTIES: Final[Mapping[str, Any]] = {
    "speed": {"type": "number", "minimum": 0.25, "maximum": 4, "default": 1.0},
    "text": {
        "type": "string",
        "enum": ["plain", "markdown"],
        "default": "plain",
        "description": "markdown: its marks are not read aloud",
    },
    "breaks": {
        "type": "boolean",
        "default": False,
        "description": 'whether <break time="1.5s"/> is a pause, of 10 s at most',
    },
}


def schema(own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of `params`, with an engine's own properties beside those of PROPERTIES."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {**PROPERTIES, **own},
    }


def check_request(job: EngineJob, engine: str) -> EngineJob:
    """`job` with the defaults of PROPERTIES filled in. Raises Rejected; `engine` is named in it."""
    check_text(job.input, MAX_INPUT_CHARS)
    if ssml.is_document(job.input):
        raise Rejected("input", f"is SSML, which the voices of {engine} do not read")
    defaults = {name: rule["default"] for name, rule in PROPERTIES.items()}
    valid = replace(job, params={**defaults, **job.params})
    if valid.params["breaks"]:
        try:
            ssml.check_breaks(job.input)
        except ssml.BadBreak as error:
            raise Rejected("input", f"has a wrong pause: {error}") from error
    return valid
