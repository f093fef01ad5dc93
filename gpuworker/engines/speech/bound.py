"""How long a text is at most when it is spoken: for the model's card, which gateways evaluate.

The figures were fitted to 12,958 texts of 45 kinds, spoken by espeak-ng 1.52 with each of its voices and by flite 2.2:
prose, random words, digits, symbols, emoji, eighteen scripts, single characters repeated. English prose gets 2.6 times
its length. `tests/engines/test_bound.py` speaks new ones.
"""

from typing import Final

from bus.bound import SpokenText

#: Seconds of a character at normal speed.
_WEIGHTS: Final = {
    "letter": 0.13,
    "spelled": 0.35,
    "double_u": 0.9,
    "digit": 0.75,
    "pause": 0.3,
    "exclamation": 1.4,
    "symbol": 0.6,
    "extended": 0.6,
    "mark": 1.0,
    "greek": 1.5,
    "cyrillic": 1.8,
    "armenian": 1.2,
    "hebrew": 1.4,
    "arabic": 1.9,
    "indic": 1.2,
    "thai": 1.8,
    "georgian": 1.4,
    "ethiopic": 2.2,
    "kana": 1.15,
    "han": 1.1,
    "hangul": 2.5,
    "other": 2.4,
}
#: The same where the voice reads the script instead of naming each of its letters.
_NATIVE: Final = {
    "greek": 0.16,
    "cyrillic": 0.16,
    "armenian": 0.16,
    "hebrew": 0.16,
    "arabic": 0.3,
    "indic": 0.16,
    "thai": 0.25,
    "georgian": 0.16,
    "ethiopic": 0.25,
    "kana": 0.25,
    "han": 0.35,
    "hangul": 0.35,
}
_READERS: Final = {
    "greek": "el grc",
    "cyrillic": "ba be bg bs cv hr kk ky mk nog ru ru-cl ru-lv sr tt uk",
    "armenian": "hy hyw",
    "hebrew": "he",
    "arabic": "ar fa fa-latn sd ur",
    "indic": "as bn bpy gu hi kn kok ml mr ne or pa si ta te",
    "thai": "th",
    "georgian": "ka",
    "ethiopic": "am ti",
    "kana": "ja",
    "han": "cmn yue",
    "hangul": "ko",
}
#: Voices that take longer, most of them because they name letters or numbers at length.
_SLOWER: Final = {
    1.1: "flite-slt jbo",
    1.2: "ar et eu fa-latn id mk ms pt-br ru-cl si smj",
    1.3: "af el flite-awb flite-kal16 haw la ltg lv mi sr tk",
    1.4: "fi",
    1.5: "flite-rms piqd sd tn uk",
    1.6: "lt mto ta",
    1.7: "shn",
    1.8: "kok my",
    1.9: "cv ky nog",
    2.0: "ba hyw ur",
    2.1: "ti",
    2.3: "ja",
    2.5: "qdb",
}


def spoken_text() -> SpokenText:
    """The bound of `speech`."""
    reads: dict[str, list[str]] = {}
    for script, voices in _READERS.items():
        for voice in voices.split():
            reads.setdefault(voice, []).append(script)
    return SpokenText(
        lead_s=1.0,
        word_s=0.15,
        weights=_WEIGHTS,
        native=_NATIVE,
        reads=reads,
        pace={voice: pace for pace, voices in _SLOWER.items() for voice in voices.split()},
        variant_pace=1.3,
        speed_param="speed",
        # At 4, pauses and flite's rounding take up to an eighth more than a quarter.
        min_speed=0.25,
        max_speed=3.5,
        # The slowest rate, the slowest voice, and a text that is spelled out: 3.6 times as long, measured.
        ssml_pace=4.5,
        breaks_param="breaks",
        break_s=1.0,
    )
