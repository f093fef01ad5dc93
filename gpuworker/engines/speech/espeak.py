"""espeak-ng seen from outside: where the wheel put it, the voices it has, and what to ask its process for.

The library itself (GPL-3.0-or-later) is loaded by `espeak_process` alone; here only its data files are read.
"""

import functools
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuworker.engine import Voice
from gpuworker.engines.speech.speaker import Speaker

RATE_HZ = 22_050
DEFAULT_VOICE = "en-us"

#: What the library calls its normal speed, and what it can do.
_NORMAL_WPM, _MIN_WPM, _MAX_WPM = 175, 80, 700
#: Priority of a language that a voice's file gives none; lower comes first.
_USUAL_PRIORITY = 5
_LIBRARY_NAMES = {"darwin": "libespeak-ng.dylib"}


@dataclass(frozen=True, slots=True)
class Files:
    library: Path
    data: Path


@dataclass(frozen=True, slots=True)
class _Language:
    #: As the library loads it, `gmw/en-US`.
    name: str
    title: str
    #: (tag, priority), in the file's order; the first is the voice's own.
    tags: tuple[tuple[str, int], ...]


def find_espeak() -> Files | None:
    """Where the `espeakng-loader` wheel keeps the library, or None."""
    spec = importlib.util.find_spec("espeakng_loader")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    library = folder / _LIBRARY_NAMES.get(sys.platform, "libespeak-ng.so")
    return Files(library, folder / "espeak-ng-data") if library.exists() else None


def speaker(files: Files) -> Speaker:
    return Speaker("gpuworker.engines.speech.espeak_process", [str(files.library), str(files.data)])


class Voices:
    """Of one installation: 140 languages, each alone or with one of a hundred variants, `de+f3`."""

    def __init__(self, data: Path) -> None:
        self._languages: dict[str, _Language] = {}
        self._aliases: dict[str, str] = {}
        self._variants = {path.name.casefold(): path.name for path in (data / "voices" / "!v").iterdir()}
        ranked: dict[str, tuple[int, str]] = {}
        for language in _read_languages(data / "lang"):
            own = language.tags[0][0].casefold()
            if own in self._languages:
                own = language.name.rpartition("/")[2].casefold()
            self._languages[own] = language
            for tag, priority in language.tags[1:]:
                ranked[tag.casefold()] = min(ranked.get(tag.casefold(), (priority, own)), (priority, own))
        self._aliases = {tag: own for tag, (_, own) in ranked.items() if tag not in self._languages}

    def listed(self) -> tuple[Voice, ...]:
        return tuple(
            Voice(id=own, name=language.title, language=language.tags[0][0])
            for own, language in sorted(self._languages.items())
        )

    def find(self, voice: str) -> str | None:
        """The id of `voice`, whose case does not matter and whose language may stand for its usual accent (`en`)."""
        tag, plus, variant = voice.partition("+")
        own = tag.casefold() if tag.casefold() in self._languages else self._aliases.get(tag.casefold())
        if own is None:
            return None
        if not plus:
            return own
        known = self._variants.get(variant.casefold())
        return None if known is None else f"{own}+{known}"

    def in_document(self, voice: str) -> bool:
        """Whether the library finds `voice` when SSML names it: it knows its files' names (`en`, `fr`), not all tags.

        Variants it passes over.
        """
        found = self.find(voice)
        if found is None or "+" in found:
            return False
        return self.native(found).rpartition("/")[2].casefold() == voice.casefold()

    def names(self) -> tuple[str, ...]:
        """Every language that `find` knows, aliases included."""
        return (*self._languages, *self._aliases)

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(sorted(self._variants.values()))

    def native(self, voice_id: str) -> str:
        """What the library calls a voice that `find` returned."""
        own, plus, variant = voice_id.partition("+")
        return f"{self._languages[own].name}{plus}{variant}"


@functools.cache
def voices(files: Files) -> Voices:
    return Voices(files.data)


def words_per_minute(speed: float) -> int:
    """1.0 is 175 words per minute. The library does 80 to 700: a `speed` under 0.46 sounds as 0.46."""
    return min(_MAX_WPM, max(_MIN_WPM, round(_NORMAL_WPM * speed)))


def request(native_voice: str, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """All that `espeak_process` needs to know besides `text` and `ssml`."""
    return {
        "voice": native_voice,
        "rate_wpm": words_per_minute(params["speed"]),
        "pitch": round(params["pitch"]),
        "range": round(params["range"]),
        "volume": round(params["volume"]),
        "seed": seed,
    }


def _read_languages(folder: Path) -> list[_Language]:
    """The languages that can be spoken, shorter names first: of two with one tag the plain one (`cmn`) has it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    languages = []
    for path in sorted(paths, key=lambda path: (len(path.name), str(path))):
        title, tags, dictionary = "", [], ""
        for line in path.read_text(encoding="utf-8").splitlines():
            match line.partition("//")[0].split():
                case ["name", *words] if not title:
                    title = " ".join(words)
                case ["language", tag]:
                    tags.append((tag, _USUAL_PRIORITY))
                case ["language", tag, priority]:
                    tags.append((tag, int(priority)))
                case ["dictionary", dictionary]:
                    pass
        dictionary = dictionary or (tags[0][0].partition("-")[0] if tags else "")
        # Without its dictionary the library spells a language out, or stays silent.
        if (folder.parent / f"{dictionary}_dict").exists():
            languages.append(_Language(path.relative_to(folder).as_posix(), title, tuple(tags)))
    return languages
