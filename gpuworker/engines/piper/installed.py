"""The voices of a worker's folder, and those whose files come with a job because an operator has installed them."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from bus.text import did_you_mean
from gpuworker.engine import EngineJob, InstallableVoice
from gpuworker.engines.piper.bound import spoken_text
from gpuworker.engines.piper.voices import Folder, PiperVoice, names, read

#: Descriptions of installed voices that are remembered, some 20 KB each.
_MAX_KNOWN: Final = 64


class Voices:
    """Finds the voice of a job. An installed one is read once, although every job has paths of its own."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        #: Installed voices by the digest of their files.
        self._known: OrderedDict[str, PiperVoice] = OrderedDict()

    def find(self, job: EngineJob, default: str) -> tuple[PiperVoice, str] | None:
        """The voice of a job, or the `default`, and the name of its speaker; None if there is none.

        Raises Unusable for a file that is no voice.
        """
        name = job.voice or default
        base, plus, speaker = name.partition("+")
        files = job.voice_files.get(base)
        if files is None:
            return self._folder.find(name)
        voice = self._open(job.voice_digests.get(name, ""), files)
        named = voice.speaker(speaker) if plus else ""
        return None if named is None else (voice, named)

    def _open(self, digest: str, files: Mapping[str, str]) -> PiperVoice:
        path = next(Path(path) for name, path in files.items() if name.endswith(".onnx"))
        known = self._known.pop(digest, None) or read(path)
        voice = replace(known, path=path)
        self._known[known.sha256] = voice
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return voice

    def unknown(self, name: str) -> str:
        """Why a voice was not found, for people."""
        if not name:
            return "is not given, and there is no voice: `antiphon voices install`, or a folder in engines.piper.voices"
        base = name.partition("+")[0]
        unusable = self._folder.unusable
        if reason := next((why for voice, why in unusable.items() if voice.casefold() == base.casefold()), ""):
            return f"{name!r} cannot be used: {reason}"
        return f"{name!r} is not known{did_you_mean(name, names(self._folder.voices.values()), limit=3)}"


def describe(name: str, folder: Path) -> InstallableVoice:
    """The voice `name` in `folder`, checked as a whole file. Raises Unusable."""
    voice = read(folder / f"{name}.onnx")
    bound = spoken_text([voice])
    return InstallableVoice(
        name=voice.id,
        files=(f"{name}.onnx", f"{name}.onnx.json"),
        rate_hz=voice.rate_hz,
        voices=tuple(voice.listed()),
        pace=bound.pace,
        reads=bound.reads,
    )
