"""The inputs of a job: files that the engine reads, each named by the SHA-256 of a blob. Pure."""

from collections.abc import Collection, Mapping
from typing import Final

from bus.blob_names import is_digest
from bus.errors import Invalid
from bus.params import short
from bus.subjects import is_token
from bus.text import suggestion

#: Most inputs of one job.
MAX_INPUTS: Final = 16


def check_inputs(inputs: Mapping[str, str]) -> None:
    """Check names and digests by their form. Raises Invalid, which names field, limit and value."""
    if len(inputs) > MAX_INPUTS:
        raise Invalid(f"inputs: {len(inputs)} are more than {MAX_INPUTS}", "inputs")
    for name, digest in inputs.items():
        if not is_token(name):
            raise Invalid(f"inputs: the name {short(name)!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -", "inputs")
        if not is_digest(digest):
            raise Invalid(
                f"inputs.{name}: {short(digest)!r} is no SHA-256 of 64 hexadecimal digits in lower case",
                f"inputs.{name}",
            )


def check_known(inputs: Mapping[str, str], known: Collection[str], model: str) -> None:
    """Raise Invalid for an input that the model does not take; `known`: the names on its card."""
    for name in inputs:
        if name not in known:
            takes = suggestion(name, sorted(known)) if known else "; it takes none"
            raise Invalid(f"inputs.{name}: unknown to {model}{takes}", f"inputs.{name}")
