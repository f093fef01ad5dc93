"""The two files that an operator names: the model and its voices."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bus.voices import files_digest
from gpuworker.engines.kokoro import network
from gpuworker.engines.kokoro.voices import Voices, read_voices
from gpuworker.engines.networks.model_file import Unusable

_ENDINGS: Final = {".npz", ".bin"}


@dataclass(frozen=True, slots=True)
class Files:
    """A model and its voices, or the reason why there are none."""

    model: Path = Path()
    voices: Voices = field(default_factory=Voices)
    #: A sentence that names the file or the option at fault; "" if both can be used.
    fault: str = ""

    @classmethod
    def read(cls, model: str, voices: str, language: str) -> "Files":
        """Read the voices, and look at the model without loading it. `language`: as `read_voices` takes it."""
        if not model:
            return cls(
                fault="kokoro has no model: name an ONNX file, `antiphon worker --engine-option kokoro.model=FILE` "
                "or `model` in [engines.kokoro], with its voices beside it"
            )
        path = Path(model).expanduser()
        try:
            network.check(path)
            beside = Path(voices).expanduser() if voices else _beside(path)
            digest = files_digest({each.name: _sha256(each) for each in (path, beside)})
            return cls(path, read_voices(beside, language, digest))
        except Unusable as error:
            return cls(path, fault=str(error))


def _beside(model: Path) -> Path:
    found = sorted(each for each in model.parent.iterdir() if each.suffix in _ENDINGS)
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise Unusable(f"which file has the voices? Beside {model.name}: {names}; name one with engines.kokoro.voices")
    return found[0]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror or error}") from error
