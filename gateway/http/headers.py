"""Headers that all HTTP APIs share: the names of ours in responses, and readers of those in requests."""

from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web

from bus import wire
from bus.errors import Invalid
from bus.options import HOPS_HEADER
from bus.params import short
from bus.voices import REFERENCE

#: The job that a response concerns.
JOB_HEADER: Final = "Antiphon-Job"
#: The voice that the job was resolved to, with its model, version and digest.
VOICE_HEADER: Final = "Antiphon-Voice"
#: How the audio in the response is marked as synthetic: `tag`, `inaudible`, both, or `none`.
MARKED_HEADER: Final = "Antiphon-Marked"
#: An id that a client can quote: the log has it.
REQUEST_ID: Final = "X-Request-Id"
#: How the result cache answered a request that could share a run: `miss`, `shared` or `hit`.
CACHE_HEADER: Final = "Antiphon-Cache"
#: Fields of the request that were ignored although their names could be ours.
IGNORED_HEADER: Final = "Antiphon-Ignored"
MAX_IDEMPOTENCY_KEY_CHARS: Final = 255
#: Voices of a script that are listed: clients read some 8 KB of headers.
_MAX_VOICES: Final = 32
#: Characters of a W3C `traceparent`.
_TRACEPARENT_CHARS: Final = 55
_MAX_DIGITS: Final = 9


def voice_headers(job: wire.Job) -> dict[str, str]:
    """The header `Antiphon-Voice` of a job that is complete; {} for one without a voice.

    An item of RFC 9651 with parameters: `en_US-joe-medium;model=piper;version=v1;sha256="58af…"`. Characters of a voice
    that are none of a token are percent-encoded. Of a script a list: each voice once, in order, `_MAX_VOICES` at most.
    """
    if job.script:
        voices = list(dict.fromkeys(turn.voice for turn in job.script if turn.voice))[:_MAX_VOICES]
        return {VOICE_HEADER: ", ".join(_voice_item(job, voice) for voice in voices)} if voices else {}
    return {VOICE_HEADER: _voice_item(job, job.voice)} if job.voice else {}


def _voice_item(job: wire.Job, voice: str) -> str:
    known = job.voice_digests.get(voice) or job.inputs.get(REFERENCE)
    digest = f';sha256="{known}"' if known else ""
    name = quote(voice, safe="+!#$&'*^`|~:/")
    return f"{name};model={job.model};version={job.version}{digest}"


def idempotency_key(request: web.Request) -> str:
    """The header `Idempotency-Key`, "" without one. Raises Invalid for an empty one and for one that is too long."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY_CHARS:
        raise Invalid(
            f"Idempotency-Key: has {len(key)} characters, allowed are 1 to {MAX_IDEMPOTENCY_KEY_CHARS}",
            "Idempotency-Key",
        )
    return key


def hops(request: web.Request) -> int:
    """The header `Antiphon-Hops`. Raises Invalid if it is no number; a job's checks have its limit."""
    text = request.headers[HOPS_HEADER]
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise Invalid(f"{HOPS_HEADER}: {short(text)!r} is no number", HOPS_HEADER)
    return int(text)


def traceparent(text: str | None) -> str:
    """`text` if it can be a W3C `traceparent`, else ""."""
    return text if text and len(text) == _TRACEPARENT_CHARS and text.isascii() else ""


def refuses_cache(request: web.Request) -> bool:
    """Whether `Cache-Control: no-store` demands a run of the request's own, which answers no other request."""
    return "no-store" in _cache_directives(request)


def wants_fresh(request: web.Request) -> bool:
    """Whether `Cache-Control: no-cache` demands a run that starts after the request; it answers later ones too."""
    return "no-cache" in _cache_directives(request)


def _cache_directives(request: web.Request) -> set[str]:
    # A browser's WebSocket handshake always has no-cache, whatever its page wants.
    if hdrs.CACHE_CONTROL not in request.headers or hdrs.UPGRADE in request.headers:
        return set()
    value = ",".join(request.headers.getall(hdrs.CACHE_CONTROL))
    return {directive.partition("=")[0].strip().lower() for directive in value.split(",")}
