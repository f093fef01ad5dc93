"""The front ends of an engine's languages, each started when it is needed."""

from collections.abc import Sequence
from typing import Final

from gpuworker.engines.reading import english_front
from gpuworker.engines.reading.english_front import EnglishFrontEnd
from gpuworker.engines.reading.espeak_front import EspeakFrontEnd
from gpuworker.engines.reading.phonemes import FrontEnd, Letters
from gpuworker.engines.speech.espeak import find_espeak

#: Licence of espeak-ng, which runs in a process of its own.
_ESPEAK_LICENCE: Final = "GPL-3.0-or-later"
#: Languages that need no espeak-ng: the letters of the text, and US English.
_WITHOUT_ESPEAK: Final = {"", english_front.LANGUAGE}
#: The command that installs espeak-ng.
INSTALL_ESPEAK: Final = "pip install 'antiphon[espeak]'"


class FrontEnds:
    """Owns front ends, and their helper processes, until `stop`. Languages are named as espeak-ng names them."""

    def __init__(self) -> None:
        self._espeak = find_espeak()
        self._started: dict[str, FrontEnd] = {}

    def can_read(self, language: str) -> bool:
        """Whether there is a front end for the language on this machine."""
        return language in _WITHOUT_ESPEAK or self._espeak is not None

    def licences(self, languages: set[str]) -> Sequence[str]:
        """SPDX expressions of what runs for these languages beside our own code."""
        return [_ESPEAK_LICENCE] if self._espeak is not None and languages - {""} else []

    @property
    def pids(self) -> list[int]:
        """The helper processes that run."""
        return [each.pid for each in self._started.values() if each.pid is not None]

    def open(self, language: str) -> FrontEnd:
        """The front end of a language that `can_read` allows, started. Raises SpeakerFailed."""
        front_end = self._started.get(language)
        if front_end is None:
            front_end = self._make(language)
            front_end.start()
            self._started[language] = front_end
        return front_end

    def _make(self, language: str) -> FrontEnd:
        if not language:
            return Letters()
        if language == english_front.LANGUAGE:
            return EnglishFrontEnd(EspeakFrontEnd(self._espeak, language) if self._espeak else None)
        assert self._espeak is not None, "languages that need it were refused"
        return EspeakFrontEnd(self._espeak, language)

    def stop(self) -> None:
        """Free all front ends and end their helper processes. Idempotent."""
        for front_end in self._started.values():
            front_end.stop()
        self._started.clear()
