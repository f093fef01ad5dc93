"""espeak-ng's phonemes, from a process of its own: `python -m gpuworker.engines.speech.phoneme_process LIBRARY DATA`.

As in `espeak_process`, the library (GPL-3.0-or-later) is loaded here, and each text has a fresh copy of it.
"""

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuworker.engines.speech.espeak_process import LoadedEspeak
from gpuworker.engines.speech.speaker_process import Sink, serve
from gpuworker.engines.text import coverage

_UTF8 = 1
_IPA = 2


class LoadedPhonemes(LoadedEspeak):
    """The library in this process; it sends no audio."""

    def speak(self, request: Mapping[str, Any], sink: Sink) -> Mapping[str, Any]:
        """Report on `text` in `voice`.

        With `tokens`, the (start, end) of words: `clauses`, [IPA, the text that it was read from] each, `of_tokens`,
        the IPA of each token alone, and `silent`, the (start, end) of words without a sound; or `is_too_long` if a
        clause may not fit the library's buffer.
        With `suspects`, (start, end) too: those of them that are `unspoken`.
        Raises ValueError for an unknown voice.
        """
        self._set_voice(request["voice"])
        text: str = request["text"]
        if "suspects" in request:
            suspects = [(start, end) for start, end in request["suspects"]]
            return {"unspoken": coverage.unspoken(text, suspects, (), self.phonemes)}
        tokens = [text[start:end] for start, end in request["tokens"]]
        if coverage.is_too_long(text, self.phonemes):
            return {"is_too_long": True}
        of_tokens = ["".join(ipa for ipa, _ in self._clauses(token)) for token in tokens]
        silent = coverage.silent(text, [(start, end) for start, end in request["tokens"]], self.phonemes)
        return {"clauses": self._clauses(text), "of_tokens": of_tokens, "silent": silent}

    def _clauses(self, text: str) -> list[tuple[str, str]]:
        """The library has looked at one character more than a clause has."""
        data = text.encode()
        buffer = ctypes.create_string_buffer(data)
        begin = ctypes.addressof(buffer)
        at = ctypes.c_void_p(begin)
        done = 0
        found: list[tuple[str, str]] = []
        while at.value:
            ipa = self._lib.espeak_TextToPhonemes(ctypes.byref(at), _UTF8, _IPA) or b""
            end = at.value - begin if at.value else len(data)
            found.append((ipa.decode(errors="replace"), data[done:end].decode(errors="replace")))
            done = end
        return found


if __name__ == "__main__":
    serve(lambda: LoadedPhonemes(Path(sys.argv[1]), Path(sys.argv[2])))
