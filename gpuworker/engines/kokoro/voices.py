"""The voices of a Kokoro voices file: a NumPy archive (.npz, published as .bin) with one array for each voice.

An array has the style for each number of phonemes, (510, 1, 256) or (510, 256) of float32. The first letter of a
voice's name is its language, the second `f` or `m`: `af_heart` is an American woman's.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpuworker.engine import Voice
from gpuworker.engines.kokoro.vocabulary import MAX_IDS
from gpuworker.engines.networks.model_file import Unusable

STYLE_SIZE: Final = 256
#: espeak-ng's name of the language, by the first letter of a voice.
LANGUAGES: Final = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
#: Languages that Kokoro speaks from phonemes of its own, which no front end here makes.
_WITHOUT_FRONT_END: Final = {"j": "Japanese", "z": "Chinese"}
_GENDERS: Final = {"f": "female", "m": "male"}
#: An array of a voice has half a megabyte; a file that says more is none.
_MAX_ARRAY_BYTES: Final = 4 << 20
_MAX_VOICES: Final = 1000


@dataclass(frozen=True, slots=True)
class KokoroVoice:
    """A voice that can be spoken with."""

    id: str
    #: As espeak-ng names it.
    language: str
    #: By the number of phonemes less one, (510, 256), float32.
    styles: NDArray[np.float32]
    #: Of the model and the voices file.
    sha256: str = ""

    def listed(self) -> Voice:
        """As a card shows it."""
        prefix, _, name = self.id.partition("_")
        return Voice(
            self.id, (name or self.id).title(), self.language, _GENDERS.get(prefix[1:2], ""), sha256=self.sha256
        )


@dataclass(slots=True)
class Voices:
    """Voices by id, in order; and the reason for each array that is none."""

    usable: dict[str, KokoroVoice] = field(default_factory=dict)
    #: By id, a sentence each.
    unusable: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> KokoroVoice | None:
        """The voice of a name; case does not matter."""
        folded = name.casefold()
        return next((voice for voice in self.usable.values() if voice.id.casefold() == folded), None)


def read_voices(path: Path, language: str, sha256: str) -> Voices:
    """All voices of a file. `language`, if given, is the one that all of them read. Raises Unusable.

    An array that is no voice costs itself only.
    """
    found = Voices()
    for name, array in sorted(_arrays(path).items()):
        try:
            found.usable[name] = KokoroVoice(name, language or _language(name), _styles(name, array, path), sha256)
        except Unusable as error:
            found.unusable[name] = str(error)
    if not (found.usable or found.unusable):
        raise Unusable(f"{path.name} has no voice")
    return found


def _arrays(path: Path) -> Mapping[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if len(entries) > _MAX_VOICES:
            raise Unusable(f"{path.name} has {len(entries)} arrays, the limit is {_MAX_VOICES}")
        for entry in entries:
            if entry.file_size > _MAX_ARRAY_BYTES:
                raise Unusable(
                    f"{path.name}: {entry.filename} has {entry.file_size} bytes, the limit is {_MAX_ARRAY_BYTES}"
                )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Unusable(f"{path.name} is not a whole NumPy archive of voices: {error}") from error


def _language(name: str) -> str:
    letter = name[:1].casefold()
    if letter in _WITHOUT_FRONT_END:
        raise Unusable(
            f"{name} speaks {_WITHOUT_FRONT_END[letter]}, for which Antiphon has no phonemes; with "
            "engines.kokoro.language=en-us all voices read English"
        )
    if letter not in LANGUAGES:
        raise Unusable(
            f"{name}: the first letter of a voice is its language, one of {', '.join(LANGUAGES)}; "
            "engines.kokoro.language sets one for all"
        )
    return LANGUAGES[letter]


def _styles(name: str, array: Any, path: Path) -> NDArray[np.float32]:
    shape = array.shape
    if (
        array.dtype != np.float32
        or array.ndim not in {2, 3}
        or shape[-1] != STYLE_SIZE
        or array.size != len(array) * STYLE_SIZE
        or len(array) < MAX_IDS
    ):
        raise Unusable(
            f"{path.name}: {name} is {array.dtype} of the shape {shape}, not float32 of ({MAX_IDS}, 1, {STYLE_SIZE})"
        )
    if not np.isfinite(array).all():
        raise Unusable(f"{path.name}: {name} has a value that is no finite number")
    styles: NDArray[np.float32] = array.reshape(len(array), STYLE_SIZE)
    return styles
