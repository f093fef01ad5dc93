"""The phonemes that the published Kokoro models know, and their numbers.

From `config.json` of Kokoro-82M (https://huggingface.co/hexgrad/Kokoro-82M, Apache License 2.0): data only.
"""

from typing import Final

#: The phonemes of consecutive numbers, one character each, by the number of the first.
_RUNS: Final = {
    1: ";:,.!?",
    9: '—…"()“” ̃ʣʥʦʨᵝꭧAI',
    31: "O",
    33: "Q",
    35: "ST",
    39: "W",
    41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyzɑɐɒæ",
    75: "βɔɕç",
    80: "ɖðʤə",
    85: "ɚɛɜ",
    90: "ɟ",
    92: "ɡ",
    99: "ɥ",
    101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø",
    118: "ɸθœ",
    123: "ɹ",
    125: "ɾɻ",
    128: "ʁɽʂʃʈʧ",
    135: "ʊʋ",
    138: "ʌɣɤ",
    142: "χʎ",
    147: "ʒʔ",
    156: "ˈˌː",
    162: "ʰ",
    164: "ʲ",
    169: "↓",
    171: "→↗↘",
    177: "ᵻ",
}
#: Numbers by phoneme, decomposed (NFD). 0 is the pad before the first and behind the last phoneme.
IDS: Final = {symbol: first + index for first, symbols in _RUNS.items() for index, symbol in enumerate(symbols)}
#: Most phonemes of one forward pass: the model has 512 places, two of them for pads.
MAX_IDS: Final = 510
