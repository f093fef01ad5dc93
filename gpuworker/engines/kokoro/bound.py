"""How long a text is at most when a Kokoro voice speaks it: for the model's card, which gateways evaluate.

Texts become the same words as espeak-ng's, which Kokoro speaks a little slower; its sentences begin and end with a
moment of silence.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from bus.bound import SpokenText
from gpuworker.engines.kokoro.voices import KokoroVoice
from gpuworker.engines.speech import bound

_MARGIN: Final = 1.15
#: Each phoneme lasts a step of 25 ms at least, so texts become no shorter than this.
_MAX_SPEED: Final = 2.0


def spoken_text(voices: Iterable[KokoroVoice]) -> SpokenText:
    """The bound of `kokoro` with these voices."""
    espeak = bound.spoken_text()
    paces: dict[str, float] = {}
    reads: dict[str, list[str]] = {}
    for voice in voices:
        name = voice.id.casefold()
        paces[name] = _MARGIN * espeak.pace.get(voice.language, 1.0)
        if voice.language in espeak.reads:
            reads[name] = espeak.reads[voice.language]
    return msgspec.structs.replace(
        espeak, reads=reads, pace=paces, variant_pace=1.0, min_speed=0.25, max_speed=_MAX_SPEED
    )
