"""`antiphon say` and `compose`: one request, its sound into a file, to stdout or to the loudspeaker."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ops.commands import wav
from ops.commands.http import asked, wait_for
from ops.commands.player import Player
from ops.errors import OpsError, UsageRefused
from ops.settings import ClientSettings

FORMATS = ("wav", "pcm", "mp3", "opus", "aac", "flac")
#: Endings of files that are called otherwise than their format.
_ENDINGS = {"ogg": "opus", "oga": "opus", "wave": "wav"}
_HEAD_BYTES = 4096

Write = Callable[[bytes], object]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    input: str
    voice: str | None = None
    #: Of music; None: as long as the words take.
    seconds: float | None = None

    def body(self, form: str) -> dict[str, object]:
        """The request as OpenAI's speech API has it, with our `params`."""
        body: dict[str, object] = {"model": self.model, "input": self.input, "response_format": form}
        if self.voice is not None:
            body["voice"] = self.voice
        if self.seconds is not None:
            body["params"] = {"seconds": self.seconds}
        return body


def words(text: str) -> str:
    """`text`, or stdin for a dash. Raises UsageRefused for bytes that are no text where this command runs."""
    try:
        given = sys.stdin.read() if text == "-" else text
        given.encode()
    except UnicodeError as error:
        raise UsageRefused(f"the text is not {sys.stdin.encoding}, which is what this locale has") from error
    return given


def fetch(at: ClientSettings, order: Order, output: str | None, form: str | None) -> None:
    """Do as asked. Raises OpsError; then no file is left behind, or the one that stood there before is untouched."""
    chosen = _format(output, form)
    if output is None:
        with Player() as player:
            head = wait_for(_stream(at, order, chosen, player.write))
            if head is not None and (path := player.path()) is not None:
                wav.mend(path, head)
            player.finish()
    elif output == "-":
        out = sys.stdout.buffer
        wait_for(_stream(at, order, chosen, out.write))
        out.flush()
    else:
        with _replacing(Path(output)) as part:
            with part.open("wb") as file:
                head = wait_for(_stream(at, order, chosen, file.write))
            if head is not None:
                wav.mend(part, head)


def _format(output: str | None, form: str | None) -> str:
    if output is None and form not in {None, "wav"}:
        raise UsageRefused(f"--format {form}: only wav can be played; add -o FILE")
    ending = Path(output).suffix[1:].lower() if output not in {None, "-"} else ""
    chosen = form or _ENDINGS.get(ending, ending) or "wav"
    if chosen not in FORMATS:
        told = f"--format {form}" if form else f"-o {output}: no format is called {ending!r}"
        raise UsageRefused(f"{told}: choose one of {', '.join(FORMATS)}{'' if form else ' with --format'}")
    return chosen


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` that takes its place when the block succeeds and vanishes when it does not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OpsError(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


async def _stream(at: ClientSettings, order: Order, form: str, write: Write) -> wav.WavHead | None:
    """Hand the sound to `write` as it comes. Returns the WAV's head, None for another format.

    Raises OpsError if the gateway refuses, or the answer breaks off.
    """
    head, begun, size = None, b"", 0
    with _progress() as progress:
        task = progress.add_task("waiting", total=order.seconds)
        async with asked(at, "POST", "/v1/audio/speech", json=order.body(form), silence_s=None) as response:
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
        raise OpsError("the answer holds no sound")
    return head


def _progress() -> Progress:
    """On stderr, so that stdout may carry the sound; silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
