"""flite by ctypes, as a process of its own: `python -m gpuworker.engines.speech.flite_process FOLDER VOICE …`.

The shared libraries are in FOLDER. `speaker_process.py` has the protocol.
"""

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuworker.engines.speech.speaker_process import Sink, serve

#: Sampling rate of every voice; `flite.py` converts to the engine's.
RATE_HZ = 16_000
#: Audio that a voice makes at a time.
_BUFFER_FRAMES = RATE_HZ * 60 // 1000
_CONTINUE = 0
_STOP = -1
# The library keeps pointers to the names of features: they must outlive it.
_STRETCH = b"duration_stretch"
_SHIFT = b"f0_shift"
_STREAMING = b"streaming_info"


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("rate_hz", ctypes.c_int),
        ("frames", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("samples", ctypes.c_void_p),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


_ON_AUDIO = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(_Wave), ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p
)


class _Streaming(ctypes.Structure):
    _fields_ = (
        ("buffer_frames", ctypes.c_int),
        ("on_audio", _ON_AUDIO),
        ("user", ctypes.c_void_p),
        ("utterance", ctypes.c_void_p),
        ("item", ctypes.c_void_p),
    )


class LoadedFlite:
    """The library in this process, with the voices that were named."""

    def __init__(self, folder: Path, voices: list[str]) -> None:
        self._lib = self._open(folder, "libflite")
        self._open(folder, "libflite_cmulex")
        self._open(folder, "libflite_usenglish")
        lib = self._lib
        lib.flite_init()
        lib.flite_text_to_speech.restype = ctypes.c_float
        lib.flite_text_to_speech.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p]
        lib.new_audio_streaming_info.restype = ctypes.POINTER(_Streaming)
        lib.audio_streaming_info_val.restype = ctypes.c_void_p
        lib.audio_streaming_info_val.argtypes = [ctypes.POINTER(_Streaming)]
        lib.feat_set.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        lib.feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        lib.get_param_float.restype = ctypes.c_float
        lib.get_param_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        self._voices = {name: self._register(folder, name) for name in voices}

    def _open(self, folder: Path, name: str) -> ctypes.CDLL:
        return ctypes.CDLL(str(folder / f"{name}.so.1"), mode=ctypes.RTLD_GLOBAL)

    def _register(self, folder: Path, name: str) -> int:
        register = getattr(self._open(folder, f"libflite_cmu_us_{name}"), f"register_cmu_us_{name}")
        register.restype = ctypes.c_void_p
        register.argtypes = [ctypes.c_char_p]
        voice: int | None = register(None)
        if voice is None:
            raise RuntimeError(f"flite could not register its voice {name}")
        return voice

    def speak(self, request: Mapping[str, Any], sink: Sink) -> Mapping[str, Any]:
        """Speak `text` in `voice`; the keys are those that `Flite.speak` sends. There is nothing to report."""
        voice = self._voices[request["voice"]]
        features = ctypes.cast(voice, ctypes.POINTER(_Voice)).contents.features
        for name, factor in ((_STRETCH, request["stretch"]), (_SHIFT, request["f0_shift"])):
            usual = self._lib.get_param_float(features, name, 1.0)
            self._lib.feat_set_float(features, name, usual * factor)

        def on_audio(wave: Any, start: int, frames: int, last: int, info: int | None) -> int:
            pcm = ctypes.string_at(wave.contents.samples + 2 * start, 2 * frames)
            return _CONTINUE if not frames or sink(pcm) else _STOP

        callback = _ON_AUDIO(on_audio)
        info = self._lib.new_audio_streaming_info()
        info.contents.buffer_frames = _BUFFER_FRAMES
        info.contents.on_audio = callback
        self._lib.feat_set(features, _STREAMING, self._lib.audio_streaming_info_val(info))
        self._lib.flite_text_to_speech(request["text"].encode("ascii"), voice, b"none")
        return {}


if __name__ == "__main__":
    serve(lambda: LoadedFlite(Path(sys.argv[1]), sys.argv[2:]))
