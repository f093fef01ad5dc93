"""Pronunciations of English words: a dictionary of 183,000, and a small network that spells those it lacks.

The data is that of the Kokoro project's misaki and of graphemes_to_phonemes_en_us, both under the Apache License 2.0;
`data/NOTICE.md` names sources, hashes and changes. The phonemes are misaki's: one letter each, diphthongs too.
"""

import functools
import lzma
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float32]

_DATA: Final = files("gpuworker.engines.reading") / "data"
#: The network's letters and phonemes, by number.
_LETTERS: Final = "____AIOWYbdfhijklmnpstuvwz'-.BCDEFGHJKLMNPQRSTUVXZacegoqrxy"
_PHONEMES: Final = "____AIOWYbdfhijklmnpstuvwzæðŋɑɔəɛɜɡɪɹɾʃʊʌʒʔʤʧˈˌθᵊᵻ"
_BEGIN, _END, _UNKNOWN = 1, 2, 3
_NUMBERS: Final = {letter: number for number, letter in enumerate(_LETTERS) if letter != "_"}
#: Longest word that it spells, and longest pronunciation.
MAX_LETTERS: Final = 60
#: Its table of positions begins with two rows that are not used.
_FIRST_POSITION: Final = 2
_EPSILON: Final = 1e-5


class Lexicon:
    """The dictionary. About 5 MB in memory: it stays one text, in order, and is searched by halves."""

    def __init__(self) -> None:
        self._text = lzma.decompress((_DATA / "english.txt.xz").read_bytes())

    def find(self, word: str) -> str | None:
        """The pronunciation of a word as it is written; None if it is not listed."""
        key = word.encode()
        low, high = 0, len(self._text) - 1
        while low < high:
            start = self._text.rfind(b"\n", 0, (low + high) // 2 + 1) + 1
            end = self._text.find(b"\n", start)
            found, _, phonemes = self._text[start:end].partition(b"\t")
            if found == key:
                return phonemes.decode()
            if found < key:
                low = end
            else:
                high = start - 1
        return None


class Speller:
    """Pronounces words that no dictionary has: a transformer of one layer on either side (BART), in numpy."""

    def __init__(self) -> None:
        with (_DATA / "speller.npz").open("rb") as stream, np.load(stream) as arrays:
            self._weights = {name: _dequantized(arrays, name) for name in arrays.files if not name.endswith(".scale")}

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - one instance, and words repeat
    def spell(self, word: str) -> str:
        """The most likely pronunciation of a word of at most `MAX_LETTERS` Latin letters."""
        letters = [_BEGIN, *(_NUMBERS.get(letter, _UNKNOWN) for letter in word[:MAX_LETTERS]), _END]
        memory = self._encoded(letters)
        said = [_BEGIN]
        before: list[_Array] = []
        while len(said) < MAX_LETTERS:
            hidden = self._decoded(said[-1], len(said) - 1, before, memory)
            scores = hidden @ self._weights["shared.weight"].T + self._weights["final_logits_bias"]
            best = int(scores.argmax())
            if best == _END:
                break
            said.append(best)
        return "".join(_PHONEMES[number] for number in said if 4 <= number < len(_PHONEMES))

    def _encoded(self, letters: list[int]) -> _Array:
        hidden = self._embedded("encoder", letters, 0)
        hidden = self._attended("encoder.layers.0.self_attn", hidden, hidden)
        return self._widened("encoder.layers.0", hidden)

    def _decoded(self, number: int, place: int, before: list[_Array], memory: _Array) -> _Array:
        """The decoder's output for the phoneme `number` at `place`; `before` keeps those that it attends to."""
        hidden = self._embedded("decoder", [number], place)
        before.append(hidden)
        hidden = self._attended("decoder.layers.0.self_attn", hidden, np.concatenate(before))
        hidden = self._attended("decoder.layers.0.encoder_attn", hidden, memory)
        return cast("_Array", self._widened("decoder.layers.0", hidden)[0])

    def _embedded(self, side: str, numbers: list[int], place: int) -> _Array:
        first = _FIRST_POSITION + place
        positions = self._weights[f"{side}.embed_positions.weight"][first : first + len(numbers)]
        return self._normalized(f"{side}.layernorm_embedding", self._weights["shared.weight"][numbers] + positions)

    def _attended(self, name: str, hidden: _Array, memory: _Array) -> _Array:
        """`hidden` with what it attends to in `memory`, normalized."""
        query, key, value = (
            self._linear(f"{name}.{part}_proj", of) for part, of in (("q", hidden), ("k", memory), ("v", memory))
        )
        scores = query @ key.T / np.sqrt(query.shape[1])
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        found = self._linear(f"{name}.out_proj", shares / shares.sum(axis=1, keepdims=True) @ value)
        return self._normalized(f"{name}_layer_norm", hidden + found)

    def _widened(self, name: str, hidden: _Array) -> _Array:
        wide = self._linear(f"{name}.fc1", hidden)
        narrow = self._linear(f"{name}.fc2", 0.5 * wide * (1 + _erf(wide / np.sqrt(2))))
        return self._normalized(f"{name}.final_layer_norm", hidden + narrow)

    def _linear(self, name: str, hidden: _Array) -> _Array:
        return cast("_Array", hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"])

    def _normalized(self, name: str, hidden: _Array) -> _Array:
        centred = hidden - hidden.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + _EPSILON)
        return cast("_Array", centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"])


def _dequantized(arrays: Mapping[str, Any], name: str) -> _Array:
    """Matrices are stored in eight bits, with a scale for each row."""
    scale = arrays.get(f"{name}.scale")
    return cast("_Array", arrays[name] if scale is None else arrays[name] * scale[:, None])


def _erf(x: _Array) -> _Array:
    """The error function to 1.5e-7: formula 7.1.26 of Abramowitz and Stegun."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return cast("_Array", np.sign(x) * (1 - series * np.exp(-(x**2))))
