"""The voice of a job that has a clip, as its server takes it: with each request, or uploaded once and then named."""

import base64
import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from bus.voices import REFERENCE, REFERENCE_TEXT
from gpuworker.engine import AttemptFailed, EngineJob, Rejected
from gpuworker.engines.clip import read_clip
from gpuworker.engines.upstream.options import UpstreamOptions
from gpuworker.engines.upstream.server import Server, Waits

_PATH: Final = "/v1/audio/voices"
_BOUNDARY: Final = "antiphon-clip-5f1c9d7a3e"
#: Servers want words here; ours are in the gateway's record of the voice.
_CONSENT: Final = "The uploader has stated the consent of the speaker to an Antiphon gateway."
_MAX_TEXT_BYTES: Final = 64 << 10
_NAME_DIGITS: Final = 32


class Cloning:
    """Passes clips on to one server."""

    def __init__(self, server: Server, options: UpstreamOptions) -> None:
        self._server = server
        self._uploads = options.clones == "voices"
        self._fields = options.clip_fields
        #: Names of voices that the server has from here.
        self._known: set[str] = set()

    def fields(self, job: EngineJob) -> Generator[Waits, None, dict[str, Any]]:
        """The fields of the request that say the voice of `job`; none for a job without a clip.

        Raises Rejected for a clip that is none or that the server refuses, AttemptFailed, UpstreamFailed.
        """
        read_clip(job.inputs)
        path = job.inputs.get(REFERENCE)
        if path is None:
            return {}
        clip, text = Path(path).read_bytes(), _text(job)
        if not self._uploads:
            url = f"data:audio/wav;base64,{base64.b64encode(clip).decode()}"
            return {**self._fields, "ref_audio": url, "ref_text": text}
        name = f"antiphon-{hashlib.sha256(clip + text.encode()).hexdigest()[:_NAME_DIGITS]}"
        if name not in self._known:
            yield from self._upload(job, name, clip, text)
            self._known.add(name)
        return {**self._fields, "voice": name}

    def _upload(self, job: EngineJob, name: str, clip: bytes, text: str) -> Generator[Waits, None, None]:
        body = _form({"name": name, "consent": _CONSENT, "ref_text": text}, clip)
        media = f"multipart/form-data; boundary={_BOUNDARY}"
        try:
            yield from self._server.get(job, self._server.request("POST", _PATH, body, media))
        except Rejected as error:
            # The name has the clip's digest: a voice of that name is this one.
            if "exist" not in error.message:
                raise Rejected("voice", f"the clip was {error.message}") from error

    def lost(self, job: EngineJob, error: Rejected) -> AttemptFailed | None:
        """The error in place of one about the voice: the server may have forgotten it, as after a restart."""
        if error.path != "voice" or REFERENCE not in job.inputs or not self._known:
            return None
        self._known.clear()
        return AttemptFailed(f"{self._server.name}: {error}", is_fault=False) if job.attempt < 2 else None


def _text(job: EngineJob) -> str:
    """The words of the clip; "" if they are not known. Raises Rejected."""
    path = job.inputs.get(REFERENCE_TEXT)
    if path is None:
        return ""
    with Path(path).open("rb") as file:
        data = file.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise Rejected(f"inputs.{REFERENCE_TEXT}", f"has more than {_MAX_TEXT_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Rejected(f"inputs.{REFERENCE_TEXT}", f"is not UTF-8: {error.reason}") from error


def _form(fields: dict[str, str], clip: bytes) -> bytes:
    """A form as RFC 7578 has it; a random boundary is not needed, for the values are ours, or a checked WAV."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
        if value
    ]
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="audio_sample"; filename="clip.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    return b"".join([*parts, head.encode(), clip, f"\r\n--{_BOUNDARY}--\r\n".encode()])
