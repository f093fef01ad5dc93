"""The voices of one installation of espeak-ng, read from its data files. The library itself is not loaded."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus.voices import spellings
from gpuworker.engine import Voice

#: Priority of a language tag that a voice's file gives none; lower comes first.
_USUAL_PRIORITY: Final = 5


@dataclass(frozen=True, slots=True)
class _Language:
    #: As the library loads it, `gmw/en-US`.
    name: str
    title: str
    #: (tag, priority), in the file's order; the first is the voice's own.
    tags: tuple[tuple[str, int], ...]


class Voices:
    """About 140 languages, each alone or with one of a hundred variants, `de+f3`."""

    def __init__(self, data: Path) -> None:
        """Read the folder `espeak-ng-data`."""
        self._languages: dict[str, _Language] = {}
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
        """One voice for each language, without variants."""
        return tuple(
            Voice(id=own, name=language.title, language=language.tags[0][0])
            for own, language in sorted(self._languages.items())
        )

    def find(self, voice: str) -> str | None:
        """The id of `voice`, spelled in any of `spellings`; a language may stand for its usual accent (`en`)."""
        _, plus, variant = voice.partition("+")
        tags = (name.partition("+")[0] for name in spellings(voice))
        own = next((own for tag in tags if (own := self._own(tag))), None)
        if own is None:
            return None
        if not plus:
            return own
        known = self._variants.get(variant.casefold())
        return None if known is None else f"{own}+{known}"

    def _own(self, tag: str) -> str | None:
        return tag if tag in self._languages else self._aliases.get(tag)

    def similar(self, voice: str) -> list[str]:
        """Names to choose a suggestion from: a known language with each variant, else every language and alias."""
        language, plus, _ = voice.partition("+")
        if plus and self.find(language):
            return [f"{language}+{variant}" for variant in self._variants.values()]
        return [*self._languages, *self._aliases]

    def in_document(self, voice: str) -> bool:
        """Whether the library finds `voice` when SSML names it.

        It then knows the names of its files (`en`, `fr`), not all tags, and ignores variants.
        """
        found = self.find(voice)
        if found is None or "+" in found:
            return False
        return self.native(found).rpartition("/")[2].casefold() == voice.casefold()

    def language(self, voice_id: str) -> str:
        """BCP 47 tag, in lower case, of a voice that `find` returned."""
        return self._languages[voice_id.partition("+")[0]].tags[0][0].casefold()

    def native(self, voice_id: str) -> str:
        """The library's own name of a voice that `find` returned."""
        own, plus, variant = voice_id.partition("+")
        return f"{self._languages[own].name}{plus}{variant}"


@functools.cache
def read_voices(data: Path) -> Voices:
    """The voices of the folder `espeak-ng-data`, read once per process."""
    return Voices(data)


def _read_languages(folder: Path) -> list[_Language]:
    """The languages that can be spoken, shorter names first: of two with one tag the plain one (`cmn`) has it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    languages = []
    for path in sorted(paths, key=lambda path: (len(path.name), str(path))):
        title = ""
        tags: list[tuple[str, int]] = []
        dictionary = ""
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
