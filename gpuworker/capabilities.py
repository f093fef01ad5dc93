"""The description that an engine gives of itself, and its reports. Engines import these from `gpuworker.engine`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from bus.bound import Bound
from bus.quality import Limits


class Resume(StrEnum):
    """How a second worker continues a stream at `start_frame`."""

    #: Any frame can be computed alone.
    RANDOM_ACCESS = "random_access"
    #: Everything before `start_frame` is computed again (and thrown away) on the way.
    REPLAY = "replay"
    #: From a `Checkpoint` of the attempt before.
    CHECKPOINT = "checkpoint"
    #: Only from the beginning, and not sample by sample: the transition is audible.
    RESTART = "restart"


class Determinism(StrEnum):
    """How equal the audio of equal input, parameters and seed is."""

    BITWISE = "bitwise"
    SAME_BUILD = "same_build"
    TOLERANCE = "tolerance"
    NONE = "none"


class Completeness(StrEnum):
    """Whether an engine knows that it has spoken all of a text."""

    #: It compares what it spoke with the text, word by word: a job that lost a word fails with `TextLost`.
    WORDS = "words"
    #: It cannot know, or its input is not spoken.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of a model; a job's `voice` is its id."""

    id: str
    name: str
    #: BCP 47 tag, as the engine's library spells it.
    language: str
    #: Empty if unknown.
    gender: str = ""
    #: `bus.voices.files_digest` of its files; empty for a voice that is a part of its engine's library.
    sha256: str = ""
    #: False: it reads no SSML, although its model does with other voices.
    ssml: bool = True


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's choices for one engine: each field, with a default, is an option of `[engines.<name>]`.

    An engine that has options derives a struct from this, names it in its class attribute `Options`, and takes an
    instance in its constructor. An engine without the attribute has none and is made without an argument.
    """


@dataclass(frozen=True, slots=True)
class Requirement:
    """A Python module or a system library that an engine cannot be loaded without, and how to install it."""

    #: For a module, the argument of `pip install`, extra included (`antiphon[models]`); for a library, a whole command.
    install: str
    #: Import name of the module; empty for a library.
    module: str = ""
    #: Name of the library as the linker takes it, `flite` for libflite.so; empty for a module.
    library: str = ""
    #: Any of these is enough instead.
    otherwise: tuple["Requirement", ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Description of an engine; constant for its life and readable before `load`."""

    #: The model's name and version on the bus, one subject token each.
    name: str
    #: speech | music | tone | …
    kind: str
    #: Frames per second, and samples per frame, of every block.
    rate_hz: int
    channels: int
    resume: Resume
    determinism: Determinism
    #: JSON Schema (draft 2020-12) of a job's `params`: an object with `additionalProperties: false`.
    param_schema: Mapping[str, Any]
    #: Longest `input`, in characters.
    max_input_chars: int
    #: Fewest letters of `input`; one of Han, kana or Hangul counts for two and a half.
    min_input_letters: int = 0
    version: str = "v1"
    #: Empty for a model without voices.
    voices: tuple[Voice, ...] = ()
    #: Id of the voice of a job that names none.
    default_voice: str = ""
    #: Name of another model, whose requests gateways give to this one where it has the voice: `speech`. Empty for none.
    family: str = ""
    #: Of speech: whether it reads SSML documents. Without it they are refused before the engine sees them.
    ssml: bool = False
    #: Files that a job may have, by name, with a text for people: what the file is, and its limits.
    inputs: Mapping[str, str] = field(default_factory=dict)
    #: Most jobs that share one forward.
    max_batch: int = 1
    completeness: Completeness = Completeness.NONE
    #: SPDX expression of all that runs, weights included.
    licence: str = "Apache-2.0"
    #: The most audio that a job can make, at least what it does make: a job that outgrows it is ended. None: not known.
    bound: Bound | None = None
    #: Limits that its audio is measured against. None: it is not measured.
    quality: Limits | None = None
    #: Without these the engine cannot be loaded. `antiphon doctor` checks them and prints how to install them.
    requires: tuple[Requirement, ...] = ()

    @property
    def scripts(self) -> bool:
        """Whether a job may have a script: the host gives any engine that speaks one turn at a time."""
        return self.kind == "speech"

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the voices, sorted."""
        return tuple(sorted({voice.language for voice in self.voices}))


@runtime_checkable
class ReportsMemory(Protocol):
    """An engine that can read how much of its device it holds. An engine need not be one."""

    def device_bytes(self) -> int | None:
        """Device memory that this process holds, in use or cached; None on the CPU and before `load`.

        Engines of one library share its pool and report the same value: the host takes the largest. It is called
        between two steps, about once a second, and must not wait for the device.
        """
        ...


@runtime_checkable
class ReportsReadiness(Protocol):
    """An engine that depends on a server, which may be down or still loading. An engine need not be one."""

    def unready(self) -> str:
        """Why no job can begin now; "" if one can. Called between two steps, ten times a second; must not wait."""
        ...


@dataclass(frozen=True, slots=True)
class InstallableVoice:
    """A voice that an operator can install while workers run."""

    #: The value of a job's `voice`.
    name: str
    #: Names of its files, each with a dot.
    files: tuple[str, ...]
    rate_hz: int
    #: As the card lists it: the voice, and its speakers.
    voices: tuple[Voice, ...]
    #: What it adds to the model's `bus.bound.SpokenText`.
    pace: Mapping[str, float] = field(default_factory=dict)
    reads: Mapping[str, list[str]] = field(default_factory=dict)


class TakesVoices(Protocol):
    """A class of engines whose voices are files. An engine need not be of one.

    Its jobs may have a voice that `capabilities` do not list: then the files are in `EngineJob.voice_files`.
    """

    @staticmethod
    def describe_voice(name: str, folder: Path) -> InstallableVoice:
        """The voice `name` of the files in `folder`. Raises Exception: the text names the file, and what is wrong."""
        ...
