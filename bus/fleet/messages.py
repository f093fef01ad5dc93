"""Messages between workers and the gateways and commands that watch them. No I/O. Compatibility: see `bus.wire`."""

from typing import Any, Final

import msgspec

from bus.bound import Bound
from bus.quality import Limits

#: Payload of a ping that requests the models' cards.
DESCRIBE: Final = b"describe"


class Voice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One voice of a model, as its engine declares it."""

    #: The value of a job's `voice` that chooses it.
    id: str
    #: For people.
    name: str
    #: BCP 47 tag, as the engine's library spells it.
    language: str
    #: "" if the engine does not say.
    gender: str = ""
    #: `bus.voices.files_digest` of its files; "" for a voice that is a part of its engine's library.
    sha256: str = ""
    #: False: it reads no SSML, whatever its model does.
    ssml: bool = True


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An engine's capabilities, made by its worker when it starts."""

    #: The value of a job's `model`; one subject token.
    name: str
    #: One subject token, `v1` unless the engine says otherwise.
    version: str
    #: `speech`, `music`, `tone`, ….
    kind: str
    #: Frames per second of every block.
    rate_hz: int
    #: Samples per frame.
    channels: int
    #: How a later attempt continues: `random_access`, `replay`, `checkpoint`, `restart`.
    resume: str
    #: How equal the audio of equal jobs is: `bitwise`, `same_build`, `tolerance`, `none`.
    determinism: str
    #: JSON Schema, draft 2020-12, of a job's `params`.
    param_schema: dict[str, Any]
    #: Longest `input`.
    max_input_chars: int
    #: Fewest letters of `input`; one of Han, kana or Hangul counts for two and a half.
    min_input_letters: int = 0
    #: Whether it takes a `script` in the place of `input`.
    scripts: bool = False
    #: Whether a text that is an SSML document is read as one; otherwise it is refused. Of speech alone.
    ssml: bool = True
    #: Empty for a model without voices.
    voices: list[Voice] = []
    #: BCP 47 tags of the voices, sorted.
    languages: list[str] = []
    #: Id of the voice of a job that names none; "" without voices.
    default_voice: str = ""
    #: Name of another model, whose requests gateways give to this one where it has the voice; "" for none.
    family: str = ""
    #: Files that a job may name in `inputs`, by name, with a text for people.
    inputs: dict[str, str] = {}
    #: Most jobs that share one forward pass.
    max_batch: int = 1
    #: `words`: a job that lost a word of its input fails. `none`: the engine cannot know, or does not speak.
    completeness: str = "none"
    #: Name of the watermark that its worker has for the marking `inaudible`; "" for none.
    watermark: str = ""
    #: SPDX expression of the model, weights included.
    licence: str = ""
    #: The most audio that a job can make; None: not known, so a job may be as long as the deployment allows.
    bound: Bound | None = None
    #: Limits that its audio is measured against; None: it is not measured.
    quality: Limits | None = None

    def shared_with(self, other: "ModelCard") -> "ModelCard":
        """This card with the voices alone that `other`, of the same model on another worker, has too."""
        if self.voices == other.voices:
            return self
        return msgspec.structs.replace(self, voices=[voice for voice in self.voices if voice in other.voices])

    def reads_ssml(self, voice: str) -> bool:
        """Whether SSML may be spoken with a voice, with or without a variant; "" for a model without voices."""
        names = {voice, voice.partition("+")[0]}
        return self.ssml and all(each.ssml for each in self.voices if each.id in names)

    def language_of(self, voice: str) -> str:
        """BCP 47 tag, in lower case, of a voice with or without a variant; "" if the card does not list it."""
        names = {voice, voice.partition("+")[0]}
        return next((each.language.casefold() for each in self.voices if each.id in names), "")


class Held(msgspec.Struct, frozen=True, array_like=True):
    """One job that a worker holds, as its heartbeat lists it. On the wire `[tenant, job]`."""

    tenant: str
    job: str


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's state. It publishes one each second, at every change of `held`, and as its last message."""

    #: The worker's id, one subject token; equal to the one in the subject.
    id: str
    #: Random for each process: distinguishes two processes with one id.
    boot: str
    #: Process id on `host`.
    pid: int
    #: Host name of the machine.
    host: str
    #: `starting` until the first model has loaded, `ready`, `draining` from the request to drain to the end.
    state: str
    #: Names of the models it takes jobs of; those of `failed` are left out.
    models: list[str]
    #: Digest of the models' cards: when it changes, `describe` gets the new ones.
    cards: str
    #: Jobs that it runs at once, at most.
    slots: int
    #: Jobs whose lease it took and has not let go of.
    held: list[Held]
    #: Jobs ever started by this process, by consumer (`model=version=lane`).
    started: dict[str, int] = {}
    #: As torch names it: `cpu`, `cuda:1`.
    device: str = "cpu"
    #: Main memory of the engine host; 0 while there is none.
    rss_bytes: int = 0
    #: Device memory of the engine host; None if no engine can measure it.
    device_bytes: int | None = None
    #: `closed`; `open`: takes no job; `trial`: takes one job, to see whether it succeeds.
    breaker: str = "closed"
    #: Relative share of jobs, as in nginx.
    weight: int = 1
    #: Takes a job only if no primary worker has a free slot.
    backup: bool = False
    #: Still loading models; takes a job only if no other worker has a free slot.
    loading: bool = False
    #: Jobs that it could start now.
    free: int = 0
    #: Reason by model that it was to serve, and that could not be loaded: only a restart of its host tries again.
    failed: dict[str, str] = {}


class Pong(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker's answer to a ping."""

    #: Of the process that answers.
    boot: str
    #: All its models' cards if the ping said `describe`, else empty.
    cards: list[ModelCard] = []


class Draining(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's answer to a request to drain."""

    #: Jobs it holds now.
    held: int
    #: How long they may go on there; then they are handed back.
    drain_s: float
