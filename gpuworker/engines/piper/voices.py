"""The voices of a folder: each `NAME.onnx` with its `NAME.onnx.json`, as Piper publishes them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bus import voices
from gpuworker.engine import Voice
from gpuworker.engines.networks import model_file
from gpuworker.engines.networks.model_file import Unusable

#: The description of a voice with a thousand speakers has some 40 KB.
_MAX_JSON_BYTES: Final = 4 * 1024 * 1024
#: A voice with more speakers is listed once; each is `voice+speaker` all the same.
_MAX_LISTED_SPEAKERS: Final = 32
_INPUTS: Final = ({"input", "input_lengths", "scales"}, {"input", "input_lengths", "scales", "sid"})
_OPERATORS: Final = {"RandomNormalLike", "Ceil", "CumSum", "ConvTranspose"}
#: The name of a file has at most 255.
_MAX_NAME_CHARS: Final = 255
_RATES_HZ: Final = range(8_000, 192_001)


@dataclass(frozen=True, slots=True)
class PiperVoice:
    """A voice that can be loaded."""

    #: Name of the file without its ending: `en_US-joe-medium`.
    id: str
    path: Path
    rate_hz: int
    #: BCP 47.
    language: str
    #: espeak-ng's name of the language, or "" for a voice whose phonemes are the characters of the text.
    espeak: str
    #: Ids of each phoneme, which is one character.
    ids: Mapping[str, Sequence[int]]
    #: Numbers of the speakers by name; empty for a voice with one.
    speakers: Mapping[str, int]
    #: The voice's own `variation`, `rhythm` and pace (above 1: slower).
    variation: float
    rhythm: float
    pace: float
    #: Of its two files; empty before they are read.
    sha256: str = ""

    def listed(self) -> list[Voice]:
        """As a card shows it: the voice, and its speakers unless they are many."""
        name = " ".join(self.id.split("-")[1:]) or self.id
        names = {self.id: name.title()}
        if len(self.speakers) <= _MAX_LISTED_SPEAKERS:
            names |= {f"{self.id}+{speaker}": f"{name.title()}, {speaker}" for speaker in self.speakers}
        return [Voice(each, shown, self.language, sha256=self.sha256) for each, shown in names.items()]

    def speaker(self, name: str) -> str | None:
        """The speaker with this name, whatever its case; None if there is none."""
        return next((each for each in self.speakers if each.casefold() == name.casefold()), None)

    def check_unchanged(self) -> None:
        """Raise Unusable if the files are no longer those that the voice was read from. Reads all of them."""
        if _digest(self.path) != self.sha256:
            raise Unusable(
                f"{self.path.name} or its JSON was changed after the worker read them: start the worker again"
            )


@dataclass(slots=True)
class Folder:
    """Voices by id, in order; and the reason for each file that is none."""

    voices: dict[str, PiperVoice] = field(default_factory=dict)
    #: By id, a sentence each.
    unusable: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> tuple[PiperVoice, str] | None:
        """The voice and the name of its speaker, "" for the first, that `name` stands for; case does not matter.

        A beginning that ends before a hyphen is enough: `en_US` or `en_US-joe`.
        """
        base, plus, speaker = name.partition("+")
        found = voices.listed(base, self.voices)
        if found is None:
            return None
        voice = self.voices[found]
        named = voice.speaker(speaker) if plus else ""
        return None if named is None else (voice, named)


def read_folder(folder: Path, rate_hz: int) -> Folder:
    """Read every file of a voice in `folder` and its sub-folders, for its digest, without loading one.

    A file that is no voice costs itself only. Voices of another rate than `rate_hz` are not usable.
    """
    found = Folder()
    for path in sorted(folder.rglob("*.onnx")):
        try:
            voice = read(path)
            if voice.rate_hz != rate_hz:
                raise Unusable(
                    f"{path.name} has {voice.rate_hz} Hz, and this worker serves voices of {rate_hz} Hz: "
                    "set engines.piper.rate_hz for it, in a worker of its own"
                )
            if voice.id in found.voices:
                raise Unusable(f"{path} has the name of another voice in {folder}")
        except Unusable as error:
            found.unusable.setdefault(path.stem, str(error))
        else:
            found.voices[voice.id] = voice
    return found


def read(path: Path) -> PiperVoice:
    """The voice of a file `NAME.onnx` and the JSON beside it, checked. Raises Unusable."""
    about = path.with_name(f"{path.name}.json")
    config = _json(about)
    ids = _of(about, config, "phoneme_id_map", dict)
    speakers = config.get("speaker_id_map") or {}
    inference = config.get("inference") or {}
    language = config.get("language") or {}
    espeak = config.get("espeak") or {}
    is_espeak = config.get("phoneme_type", "espeak") == "espeak"
    try:
        voice = PiperVoice(
            id=path.stem,
            path=path,
            rate_hz=int(_of(about, config, "audio", dict)["sample_rate"]),
            language=str(language.get("code") or path.stem.partition("-")[0]).replace("_", "-"),
            espeak=str(espeak["voice"]) if is_espeak else "",
            ids={str(char): [int(number) for number in numbers] for char, numbers in ids.items()},
            speakers={str(name): int(number) for name, number in speakers.items()},
            variation=_share(inference.get("noise_scale", 0.667)),
            rhythm=_share(inference.get("noise_w", 0.8)),
            pace=min(4.0, max(0.25, float(inference.get("length_scale", 1)))),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"{about.name} does not describe a Piper voice: {type(error).__name__}: {error}") from error
    if voice.rate_hz not in _RATES_HZ:
        raise Unusable(f"{about.name}: audio.sample_rate is {voice.rate_hz}, not between 8000 and 192000")
    _check_names(about, config, voice)
    if missing := [char for char in "^_$" if char not in voice.ids]:
        raise Unusable(f"{about.name}: phoneme_id_map lacks {', '.join(missing)}")
    if (_num_inputs(path) == 4) != (_num_speakers(about, config) > 1):
        raise Unusable(f"{about.name} and {path.name} disagree whether the voice has several speakers")
    # Last, for it reads all of a file, which may be no voice and large.
    return replace(voice, sha256=_digest(path))


def _check_names(about: Path, config: Mapping[str, Any], voice: PiperVoice) -> None:
    """Raises Unusable for names that no list could show."""
    code = (config.get("language") or {}).get("code") or voice.language
    for place, name in [("language.code", code), *(("speaker_id_map", each) for each in voice.speakers)]:
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _MAX_NAME_CHARS:
            raise Unusable(
                f"{about.name}: {place} has {str(name)[:40]!r}; a name has 1 to {_MAX_NAME_CHARS} printable characters"
            )


def _digest(path: Path) -> str:
    """The digest of a voice's two files. Raises Unusable."""
    return voices.files_digest({each.name: _sha256(each) for each in (path, path.with_name(f"{path.name}.json"))})


def _num_inputs(path: Path) -> int:
    found = model_file.outline(path)
    if found.inputs not in _INPUTS or not found.operators >= _OPERATORS:
        named = ", ".join(sorted(found.inputs))[:200] or "none"
        raise Unusable(
            f"{path.name} is not a Piper voice: its inputs are {named}; a voice has input, input_lengths, scales"
        )
    return len(found.inputs)


def _sha256(path: Path) -> str:
    """Raises Unusable for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror or error}") from error


def _num_speakers(path: Path, config: Mapping[str, Any]) -> int:
    number = config.get("num_speakers", 1)
    if not isinstance(number, int):
        raise Unusable(f"{path.name}: num_speakers is {number!r}, not a number")
    return number


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise Unusable(f"{path.name} has {path.stat().st_size} bytes, more than {_MAX_JSON_BYTES}")
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise Unusable(f"{path.name} is missing beside the voice") from error
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{path.name} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise Unusable(f"{path.name} is not a JSON object")
    return config


def _of(path: Path, config: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(config.get(key), kind):
        raise Unusable(f"{path.name} has no {key}")
    return config[key]


def _share(value: Any) -> float:
    return min(1.0, max(0.0, float(value)))


def names(voices: Iterable[PiperVoice]) -> list[str]:
    """Names to choose a suggestion from."""
    return [each.id for voice in voices for each in voice.listed()]
