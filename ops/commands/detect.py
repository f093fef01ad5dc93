"""`antiphon detect`: whether a file bears one of our marks of synthetic audio. Every function raises OpsError."""

import re
import wave
from pathlib import Path
from typing import Final

from bus.settings import SettingsError
from gpuworker import watermark
from ops.commands.show import print_fields, print_result
from ops.errors import OpsError

#: A tag stands in the head of a file, and in no format behind this.
_HEAD_BYTES: Final = 1 << 16
#: As `gateway.codecs.format` writes it: all containers hold it as it is.
_TAG: Final = re.compile(rb"Synthetic audio; generator=Antiphon; model=([\w-]+); version=([\w.-]+); job=([\w-]+)\.")


def detect(path: Path, *, as_json: bool) -> bool:
    """Print the tag of a file and, of a WAV, how sure the installed watermark is; whether there is any mark of ours.

    Raises OpsError for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise OpsError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    found = _TAG.search(head)
    names = ("model", "version", "job")
    tag = None if found is None else dict(zip(names, (each.decode() for each in found.groups()), strict=True))
    score = _score(path) if head[:4] == b"RIFF" else None
    print_result({"tag": tag, "watermark": score}, lambda: _print(tag, score), as_json=as_json)
    return tag is not None or (score is not None and score > 0.5)


def _score(path: Path) -> float | None:
    try:
        return watermark.detect(path)
    except (OSError, EOFError, wave.Error, SettingsError) as error:
        raise OpsError(f"{path}: {error}") from error
    except Exception as error:  # foreign code
        raise OpsError(f"{path}: the watermark failed: {type(error).__name__}: {error}") from error


def _print(tag: dict[str, str] | None, score: float | None) -> None:
    if tag is None:
        print("no tag of ours: that proves nothing, for a tag is lost when a file is converted")
    else:
        print_fields({"tag": "synthetic audio", **tag})
    if score is not None:
        print(f"watermark  {score:.2f} of 1")
