"""Faults of an upstream server, and the outcome of a job for each."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gpuworker.engine import AttemptFailed, EngineJob, Rejected

#: Characters of a server's own message that are passed on.
_MESSAGE_CHARS: Final = 300
#: Controls, and the format characters that change the direction or the look of a line.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\s\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")
#: Our paths of fields that a server may name as the wrong one.
_PATHS: Final[Mapping[str, str]] = {"input": "input", "prompt": "input", "text": "input", "voice": "voice"}
#: The server refuses our key or has no such path or model: the operator's mistake, not the caller's.
_MISCONFIGURED: Final = frozenset({401, 403, 404, 405, 407})


class _OneLine(Exception):
    """Has words of the server in its text, which is one line of limited length."""

    def __init__(self, message: str) -> None:
        super().__init__(tidy(message))


class UpstreamFailed(_OneLine):
    """The server failed this job for good, or is not what its options say."""


class Cut(_OneLine):
    """The connection failed, or ended before the answer did."""


class NotThere(Cut):
    """No connection could be made: the request was not sent."""


class BadAudio(_OneLine):
    """The answer is no audio of the expected form, or less than it said."""


def fault(job: EngineJob, message: str) -> Exception:
    """The exception for a wrong answer: the job is tried once more, then it has failed."""
    return AttemptFailed(message) if job.attempt < 2 else UpstreamFailed(message)


def refusal(name: str, job: EngineJob, status: int, body: bytes) -> Exception:
    """The exception for an answer of any status but 200, 429 and 503."""
    message, field = _read(body)
    said = f"{status}: {message}" if message else str(status)
    if 300 <= status < 400:
        return UpstreamFailed(f"{name} answered {status}: redirects are not followed")
    if status in _MISCONFIGURED:
        return UpstreamFailed(f"{name} answered {said}")
    if 400 <= status < 500:
        param = field.rpartition(".")[2]
        path = _PATHS.get(param) or (f"params.{param}" if param in job.params else "input")
        return Rejected(path, f"refused by the model's server with {said}")
    return fault(job, f"{name} answered {said}")


def tidy(text: str) -> str:
    """A server's text for our messages: one line, of limited length."""
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= _MESSAGE_CHARS else text[:_MESSAGE_CHARS] + "…"


def _read(body: bytes) -> tuple[str, str]:
    """(message, field) of an error of OpenAI's or FastAPI's form; of any other body its text."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return tidy(body.decode(errors="replace")), ""
    found = decoded
    for key in ("error", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return tidy(found if isinstance(found, str) else body.decode(errors="replace")), ""
    message = found.get("message") or found.get("msg") or body.decode(errors="replace")
    return tidy(str(message)), _field(found)


def _field(error: Mapping[str, Any]) -> str:
    """The field that an error names: OpenAI's `param`, or the end of FastAPI's `loc`."""
    if isinstance(error.get("param"), str):
        return str(error["param"])
    location = error.get("loc")
    return str(location[-1]) if isinstance(location, list) and location else ""
