"""espeak-ng by ctypes, as a process of its own: `python -m gpuworker.engines.speech.espeak_process LIBRARY DATA`.

The library is GPL-3.0-or-later. It is loaded here and nowhere else; the rest of Antiphon uses this process through a
socket (`speaker_process.py`).
"""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpuworker.engines.speech.speaker_process import Sink, serve
from gpuworker.engines.text import coverage

RATE_HZ = 22_050
#: Audio that the library makes at a time.
_BUFFER_MS = 60

_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_SSML = 0x10
_END_PAUSE = 0x1000
_POSITION_CHARACTER = 1
_RATE = 1
_VOLUME = 2
#: Phonemes with a blank between them: bits 8 to 23 are the separator.
_SEPARATED = ord(" ") << 8
_PITCH = 3
_RANGE = 4

_LAST_EVENT = 0
_WORD_EVENT = 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("utterance", ctypes.c_uint),
        #: Counts from 1, in characters of the text.
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        #: The frame of the utterance.
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_ON_AUDIO = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
_ON_URI = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)


class LoadedEspeak:
    """The library in this process, with its default voice."""

    def __init__(self, library: Path, data: Path) -> None:
        self._lib = ctypes.CDLL(str(library))
        self._lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._lib.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._lib.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
        # The library keeps its data path in 160 characters and fails silently on a longer one.
        os.chdir(data.parent)
        rate_hz = self._lib.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data.name.encode(), _DONT_EXIT)
        if rate_hz != RATE_HZ:
            raise RuntimeError(f"espeak-ng opened with {rate_hz} instead of {RATE_HZ} Hz from {data}")
        # `<audio src>` would make the library open files and start a shell; validation refuses it before this.
        self._on_uri = _ON_URI(lambda kind, uri, base: 1)
        self._lib.espeak_SetUriCallback(self._on_uri)
        self._set_voice("gmw/en-US")

    def _set_voice(self, name: str) -> None:
        code = self._lib.espeak_SetVoiceByName(name.encode())
        if code != 0:
            raise ValueError(f"espeak-ng has no voice {name!r} (code {code})")

    def phonemes(self, text: str) -> Sequence[str]:
        """The phonemes of each clause of a plain text, separated by blanks, in the voice that is set."""
        buffer = ctypes.create_string_buffer(text.encode())
        at = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses: list[str] = []
        while at.value:
            clauses.append(self._lib.espeak_TextToPhonemes(ctypes.byref(at), _CHARS_UTF8, _SEPARATED).decode())
        return clauses

    def speak(self, request: Mapping[str, Any], sink: Sink) -> Mapping[str, Any]:
        """Speak `text` in `voice`; the keys are those of `espeak.make_request`.

        With `tokens`, the (start, end) of those that must be spoken, and `plain`, the text without its markup, it
        returns `{"unspoken": [(start, end), …]}` for those that were not. It speaks nothing and returns
        `{"is_too_long": True}` or `{"long_words": [(start, end), …]}` if a clause or words may not fit the library's
        buffers, and `{"silent": [(start, end), …]}` if words of a plain text have no sound in the voice.
        Raises ValueError, RuntimeError.
        """
        self._set_up(request)
        tokens = [(start, end) for start, end in request.get("tokens", ())]
        plain: str = request.get("plain", "")
        if tokens and coverage.is_too_long(plain, self.phonemes):
            return {"is_too_long": True}
        if long_words := coverage.long_words(plain, tokens, self.phonemes):
            return {"long_words": long_words}
        # A document may name other voices, which have these words.
        if not request["ssml"] and (silent := coverage.silent(plain, tokens, self.phonemes)):
            return {"silent": silent}
        flags = (_SSML if request["ssml"] else 0) | (_END_PAUSE if request.get("end_pause", True) else 0)
        starts = self._synthesize(request["text"], flags, sink)
        if starts is None:
            return {}
        self._set_voice(request["voice"])  # a document may have changed it
        lost = coverage.unspoken(plain, tokens, starts, self.phonemes)
        return {"unspoken": lost} if lost else {}

    def _set_up(self, request: Mapping[str, Any]) -> None:
        self._set_voice(request["voice"])
        for parameter, key in ((_RATE, "rate_wpm"), (_PITCH, "pitch"), (_RANGE, "range"), (_VOLUME, "volume")):
            self._lib.espeak_SetParameter(parameter, request[key], 0)
        self._lib.espeak_ng_SetRandSeed(request["seed"])

    def _synthesize(self, text: str, flags: int, sink: Sink) -> list[int] | None:
        """Speak `text` into `sink`. Returns the positions of its words; None if `sink` closed. Raises RuntimeError."""
        spoken = 0
        is_open = True
        starts: list[int] = []
        words: list[tuple[int, int, int]] = []

        def on_audio(samples: int | None, frames: int, events: Any) -> int:
            nonlocal spoken, words, is_open
            words += _words(events)
            if not samples or frames <= 0:
                return 0
            # A word is sent with the audio it begins in; one that the library places elsewhere would be lost.
            within = [(min(max(frame, spoken), spoken + frames - 1), at, length) for frame, at, length in words]
            spoken += frames
            starts.extend(at for _, at, _ in words)
            words = []
            is_open = sink(ctypes.string_at(samples, 2 * frames), within)
            return 0 if is_open else 1

        callback = _ON_AUDIO(on_audio)
        self._lib.espeak_SetSynthCallback(callback)
        data = text.encode()
        flags |= _CHARS_UTF8
        code = self._lib.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, flags, None, None)
        if code != 0:
            raise RuntimeError(f"espeak-ng refused the text (code {code})")
        return starts if is_open else None


def _words(events: Any) -> Iterator[tuple[int, int, int]]:
    """(frame, position from 0, length) of the words in the library's list."""
    index = 0
    while events and events[index].kind != _LAST_EVENT:
        event = events[index]
        if event.kind == _WORD_EVENT and event.position > 0:
            yield event.sample, event.position - 1, max(event.length, 0)
        index += 1


if __name__ == "__main__":
    serve(lambda: LoadedEspeak(Path(sys.argv[1]), Path(sys.argv[2])))
