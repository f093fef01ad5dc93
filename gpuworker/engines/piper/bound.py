"""How long a text is at most when a Piper voice speaks it: for the model's card, which gateways evaluate.

Voices were recorded by people who read at espeak-ng's normal speed or a little faster, and their texts become the same
words, so espeak-ng's figures hold, with a margin for the slowest readers.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from bus.bound import SpokenText
from gpuworker.engines.piper.voices import PiperVoice
from gpuworker.engines.speech import bound

_MARGIN: Final = 1.1
#: Each phoneme and each pad between two has one latent frame at least, so texts become no shorter than this.
_MAX_SPEED: Final = 2.5


def spoken_text(voices: Iterable[PiperVoice]) -> SpokenText:
    """The bound of `piper` with these voices."""
    espeak = bound.spoken_text()
    paces: dict[str, float] = {}
    reads: dict[str, list[str]] = {}
    for voice in voices:
        name = voice.id.casefold()
        paces[name] = _MARGIN * voice.pace * espeak.pace.get(voice.espeak, 1.0)
        if voice.espeak in espeak.reads:
            reads[name] = espeak.reads[voice.espeak]
    return msgspec.structs.replace(
        espeak, reads=reads, pace=paces, variant_pace=1.0, min_speed=0.25, max_speed=_MAX_SPEED
    )
