"""`antiphon say` and `antiphon compose`: one request, its audio into a file, to stdout or to the loudspeaker."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ops.commands import wav
from ops.commands.http import request, run_async
from ops.commands.player import Player
from ops.errors import OpsError, UsageRefused
from ops.settings import ClientSettings

#: Endings of file names that differ from the name of their format.
_ENDINGS = {"ogg": "opus", "oga": "opus", "wave": "wav"}
#: The head of a WAV lies within these bytes.
_HEAD_BYTES = 4096

#: Between two looks at what an answer waits for.
_QUIET_S = 2.0

Write = Callable[[bytes], object]


class SpeechRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for speech or music."""

    model: str
    input: str = ""
    #: Turns in the place of `input`, as the API takes them.
    script: list[dict[str, str]] = []
    voice: str | None = None
    #: Length of music; None: speech is as long as its text.
    seconds: float | None = None

    def body(self, form: str) -> dict[str, object]:
        """The body for OpenAI's speech API, with our `params`; `form` is the audio format."""
        spoken = {"script": self.script} if self.script else {"input": self.input}
        body: dict[str, object] = {"model": self.model, **spoken, "response_format": form}
        if self.voice is not None:
            body["voice"] = self.voice
        if self.seconds is not None:
            body["params"] = {"seconds": self.seconds}
        return body


def text_of(text: str) -> str:
    """`text`, or stdin for a dash. Raises UsageRefused for bytes that are no text in this locale."""
    try:
        given = sys.stdin.read() if text == "-" else text
        given.encode()
    except UnicodeError as error:
        raise UsageRefused(f"the text is not {sys.stdin.encoding}, the encoding of this locale") from error
    return given


def spoken(text: str | None, script: str | None) -> dict[str, Any]:
    """The field `input` or `script` of a request. Raises UsageRefused, and OpsError for a file that is no script."""
    if script is None and text is not None:
        return {"input": text_of(text)}
    if script is not None and text is None:
        return {"script": script_of(script)}
    raise UsageRefused("give one of TEXT and --script FILE")


def script_of(path: str) -> list[dict[str, str]]:
    """The turns in a JSON file, or on stdin for a dash. The gateway checks them. Raises OpsError."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        script = msgspec.json.decode(data, type=list[dict[str, str]])
    except OSError as error:
        raise OpsError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OpsError(f'{path} is no list of turns, [{{"speaker", "text", "voice"}}, …]: {error}') from error
    if not script:
        raise OpsError(f"{path} has no turns")
    return script


def fetch(settings: ClientSettings, speech: SpeechRequest, output: str | None, form: str | None) -> None:
    """Write the audio to `output`: a path, - for stdout, None for the loudspeaker.

    `form` is the name of a format, which the gateway knows or refuses; None: the ending of `output`, or wav.
    Raises OpsError. The file is then as it was before: the audio is written beside it and replaces it at the end.
    """
    chosen = _format(output, form)
    if output is None:
        with Player() as player:
            head = run_async(_stream(settings, speech, chosen, player.write))
            if head is not None and (path := player.path()) is not None:
                wav.write_sizes(path, head)
            player.finish()
    elif output == "-":
        out = sys.stdout.buffer
        run_async(_stream(settings, speech, chosen, out.write))
        out.flush()
    else:
        with _replacing(Path(output)) as part:
            with part.open("wb") as file:
                try:
                    head = run_async(_stream(settings, speech, chosen, file.write))
                except OpsError as error:
                    if form is None and f"response_format: {chosen!r}" in str(error):
                        raise OpsError(f"{error}; it is the ending of {output}, and --format names another") from error
                    raise
            if head is not None:
                wav.write_sizes(part, head)


def _format(output: str | None, form: str | None) -> str:
    if output is None and form not in {None, "wav"}:
        raise UsageRefused(f"--format {form}: only wav can be played; add -o FILE")
    ending = Path(output).suffix[1:].lower() if output not in {None, "-"} else ""
    return form or _ENDINGS.get(ending, ending) or "wav"


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` that replaces it if the block succeeds, and is removed if it does not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OpsError(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


async def _stream(settings: ClientSettings, speech: SpeechRequest, form: str, write: Write) -> wav.WavHead | None:
    """Pass the audio to `write` as it arrives. Returns the head of a WAV, None for another format.

    Raises OpsError if the gateway refuses, or the response breaks off.
    """
    head, begun, size, job = None, b"", 0, ""
    with _progress() as progress:
        task = progress.add_task("waiting", total=speech.seconds)
        async with (
            _reporting_wait(settings) as has_answer,
            request(settings, "POST", "/v1/audio/speech", json=speech.body(form), silence_s=None) as response,
        ):
            has_answer()
            job = response.headers.get("Antiphon-Job", "")
            async for data in response.content.iter_any():
                write(data)
                size += len(data)
                if head is None and form == "wav" and len(begun) < _HEAD_BYTES:
                    begun += data
                    head = wav.parse(begun)
                if head is None:
                    progress.update(task, description=f"{size:,} bytes")
                else:
                    seconds = head.seconds(size)
                    progress.update(task, description=f"{seconds:.1f} s of audio", completed=seconds)
    if size == 0:
        raise OpsError("the response holds no audio")
    length = f"{head.seconds(size):.1f} s of audio" if head is not None else f"{size:,} bytes"
    print(f"{length}{f', job {job}' if job else ''}", file=sys.stderr)
    return head


@asynccontextmanager
async def _reporting_wait(settings: ClientSettings) -> AsyncIterator[Callable[[], object]]:
    """Say on stderr why there is no answer yet, from a while on, until the yielded function is called."""
    task = asyncio.create_task(_report_wait(settings), name="why there is no answer")
    try:
        yield task.cancel
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _report_wait(settings: ClientSettings) -> None:
    """Print the reason after `_QUIET_S`, and again whenever it has changed. Raises OpsError, as the request will."""
    said = ""
    while True:
        await asyncio.sleep(_QUIET_S)
        async with request(settings, "GET", "/readyz", allowed=HTTPStatus.SERVICE_UNAVAILABLE) as response:
            missing = msgspec.json.decode(await response.read(), type=_Readiness).missing
        reason = (
            ", ".join(missing) or "its turn: every slot may be taken, or the model or its voice may still be loading"
        )
        if reason != said:
            print(f"waiting for {reason}", file=sys.stderr)
        said = reason


class _Readiness(msgspec.Struct):
    """The part of the answer of `/readyz` that is shown."""

    missing: list[str] = []


def _progress() -> Progress:
    """A progress bar on stderr, since stdout may carry the audio; disabled where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
