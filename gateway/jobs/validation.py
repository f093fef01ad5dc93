"""Completes a request's job: fills in the defaults, and refuses every fault that is known before a worker runs it."""

import time
import uuid
from typing import Final, NamedTuple

import msgspec

from bus import params, script, ssml, voices, wire
from bus.access.keyring import Entry
from bus.access.markings import Markings
from bus.blobs.uploaded import UploadedVoices
from bus.errors import Invalid, NoWorker, UnknownModel, Unreachable
from bus.fleet.fleet import Fleet
from bus.fleet.messages import ModelCard
from bus.jobs import ids, inputs, scripts, validate
from bus.jobs.validate import AudioLimit
from bus.marking import Marking
from bus.params import short
from bus.script import Turn
from bus.settings import BusSettings
from bus.subjects import LANES, MARKINGS_ENTRY
from bus.text import suggestion
from bus.transport.bucket import BucketCopy
from bus.transport.clock import BusClock
from gateway.jobs.cache import derived_id
from gateway.jobs.cloning import with_clip
from gateway.jobs.resolution import resolve, voice_of_language

DEFAULT_MODEL: Final = "speech"
#: A gateway younger than this may not have received a heartbeat of every worker.
_DISCOVERY_S: Final = 2.5
#: By name.
_POSSIBLE: Final[dict[str, Marking]] = {"none": "none", "tag": "tag", "inaudible": "inaudible"}
#: Of a job as JSON, for the fields that the gateway adds after validation: the client, the deadline.
_ADDED_BYTES: Final = 256


class MarkingPolicy(NamedTuple):
    """How the audio of each tenant is marked as synthetic."""

    keys: BucketCopy[Entry]
    #: Of tenants without one of their own.
    default: Marking


class Validation:
    """Completes and checks jobs against the fleet's model cards and the limits of each field."""

    def __init__(
        self,
        fleet: Fleet,
        uploaded: UploadedVoices,
        clock: BusClock,
        settings: BusSettings,
        policy: MarkingPolicy,
        no_worker_s: float,
    ) -> None:
        """`no_worker_s`: how long a request waits for the first audio of a model that no worker serves."""
        self._no_worker_s = no_worker_s
        self._policy = policy
        self._fleet = fleet
        self._uploaded = uploaded
        self._clock = clock
        self._max_job_bytes = settings.max_job_bytes
        self._audio_limit = AudioLimit.of(settings)
        self._started_at = time.monotonic()

    def card(self, model: str, version: str = "") -> ModelCard:
        """The card of a model, or of one of its family if no worker ever offered the model itself.

        Raises UnknownModel, or NoWorker while it may be that its worker was not seen yet.
        """
        card = self._fleet.known_cards.get(model)
        if card is None and model in self._fleet.families:
            members = (each for name, each in sorted(self._fleet.known_cards.items()) if each.family == model)
            card = next(members)
        if card is None:
            known = self._fleet.known_models
            if not known:
                raise NoWorker("no worker has been seen yet, so no model is known; try again soon")
            if time.monotonic() - self._started_at < _DISCOVERY_S:
                raise NoWorker(f"no worker with model {short(model)!r} has been seen yet; try again soon")
            raise UnknownModel(f"model: {short(model)!r} is not offered{suggestion(model, sorted(known), limit=3)}")
        return self._version_of(card, version) if version and version != card.version else card

    def _version_of(self, card: ModelCard, version: str) -> ModelCard:
        """The card of another version of the model. Raises UnknownModel."""
        known = self._fleet.known_versions[card.name]
        if version not in known:
            hint = suggestion(version, sorted(known), limit=3)
            unknown = UnknownModel(f"version: {short(version)!r} of {card.name} is not offered{hint}")
            unknown.path = "version"
            raise unknown
        return known[version]

    def is_unserved(self, job: wire.Job) -> bool:
        """Whether no worker has served the version of a complete job for `no_worker_s`."""
        return self._fleet.unserved.seconds(job.model, job.version) >= self._no_worker_s

    def check_served(self, job: wire.Job) -> None:
        """Raises NoWorker if no worker has served the version of a complete job for `no_worker_s`."""
        if self.is_unserved(job):
            unserved_s = self._fleet.unserved.seconds(job.model, job.version)
            is_one_of_several = len(self._fleet.known_versions.get(job.model, {})) > 1
            version = f" in version {job.version}" if is_one_of_several else ""
            raise NoWorker(
                f"no worker has served model {short(job.model)!r}{version} for {unserved_s:.0f} s; a request waits for "
                f"{self._no_worker_s:g} s, a job of POST /v1/jobs until its `expires_at`"
            )

    def complete(self, job: wire.Job, *, streams: bool, size_hint_bytes: int, language: str = "") -> wire.Job:
        """`job` with every default filled in. `streams`: the API responds with the audio itself.

        A job without an id gets a random one or, if the API streams, the id that identical requests share.
        `size_hint_bytes`: size of the request's body; the size of the job is computed only if that is near the limit.
        `language`: of the voice, for a job that names none: a tag of BCP 47 in lower case.

        Raises Invalid, TooLarge, UnknownModel, NoWorker; their texts name field, limit and value. Unreachable until the
        markings of tenants have been read.
        """
        model = job.model or DEFAULT_MODEL
        lane = job.lane or ("interactive" if streams else "standard")
        validate.check_job(job)
        card = self.card(model, job.version)
        if lane not in LANES:
            raise Invalid(f"lane: {short(lane)!r} is not one of {', '.join(LANES)}", "lane")
        if None in job.params.values():
            job = msgspec.structs.replace(job, params=params.without_nulls(job.params))
        job, card, voice = self._choose(job, model, card, language)
        _check_content(job, card)
        if job.expires_at is not None:
            validate.check_deadline(job.expires_at, self._clock.now())
        params.check(card.param_schema, job.params)
        job = msgspec.structs.replace(
            job,
            requested=wire.Requested.of(job, model, language) if job.id else None,
            model=card.name,
            version=card.version,
            voice=voice,
            marking=self._marking(job.tenant, card),
            lane=lane,
            run_on=(not streams) if job.run_on is None else job.run_on,
        )
        if job.script:
            job = msgspec.structs.replace(job, script=_with_voices(job, card))
        if card.kind == "speech":
            _check_ssml(job, card)
        if card.voices and card.voices[0].sha256 and voices.REFERENCE not in job.inputs:
            job = msgspec.structs.replace(job, voice_digests=_digests(job, card))
        max_bytes = self._audio_limit.check(job, card.bound, 2 * card.rate_hz * card.channels)
        if ids.is_reserved(job.id):
            raise Invalid(f"id: {job.id!r} has the form of ids that identical requests share", "id")
        job_id = job.id or (streams and derived_id(job, card)) or uuid.uuid4().hex
        job = msgspec.structs.replace(job, id=job_id, max_bytes=max_bytes)
        validate.check_id(job.id)
        if size_hint_bytes > self._max_job_bytes // 2:
            num_bytes = len(wire.encode(job)) + _ADDED_BYTES
            validate.check_size(num_bytes, self._max_job_bytes, "script" if job.script else "input")
        return job

    def _choose(self, job: wire.Job, model: str, card: ModelCard, language: str) -> tuple[wire.Job, ModelCard, str]:
        """`job`, with the clip of an uploaded voice; the card of the model that speaks it, and the id of the voice."""
        voice = job.voice
        if voice and job.tenant in self._uploaded.by_tenant and (own := self._uploaded.find(job.tenant, voice)):
            return *with_clip(job, own, card, self._fleet.members(model)), own.id
        if model in self._fleet.families:
            card, voice = resolve(job, card, self._fleet.members(model), language)
        if voices.REFERENCE in job.inputs:
            if voice:
                raise Invalid(f"voice: {short(voice)!r} and inputs.{voices.REFERENCE} are two voices", "voice")
            return job, card, ""
        if language and not voice:
            voice = voice_of_language(card, language)
        return job, card, _voice(voice, card)

    def _marking(self, tenant: str, card: ModelCard) -> Marking:
        """The marking of a tenant's audio. Raises NoWorker if the model's workers have it not; Unreachable."""
        keys, marking = self._policy
        if not keys.is_loaded:
            raise Unreachable("the markings of tenants have not been read from the bus yet; try again soon")
        record = keys.entries.get(MARKINGS_ENTRY)
        wanted = record.tenants.get(tenant, marking) if isinstance(record, Markings) else marking
        known: Marking | None = _POSSIBLE.get(wanted)
        if known is not None and (known != "inaudible" or card.watermark):
            return known
        why = f"the workers of {card.name} have no watermark" if known else "that is not possible here"
        raise NoWorker(f"audio of the tenant {tenant!r} has to be marked {short(wanted)!r}, and {why}")


def _check_content(job: wire.Job, card: ModelCard) -> None:
    """Check the inputs, and the script or the text, by the model's card. Raises Invalid."""
    if job.inputs:
        inputs.check_known(job.inputs, card.inputs, card.name)
    if job.script:
        scripts.check_turns(job, card.max_input_chars, takes_scripts=card.scripts)
    else:
        validate.check_length(job.input, card.max_input_chars, card.min_input_letters)


def _check_ssml(job: wire.Job, card: ModelCard) -> None:
    """Raise Invalid for a document whose voice reads none. `job`: with its voices."""
    turns = ((turn.text, turn.voice, f"script[{index}].text") for index, turn in enumerate(job.script))
    for text, voice, path in turns if job.script else [(job.input, job.voice, "input")]:
        if ssml.is_document(text) and not card.reads_ssml(voice):
            by = f"{voice!r} of {card.name}" if voice else card.name
            raise Invalid(f"{path}: is SSML, which {by} does not read", path)


def _voice(voice: str, card: ModelCard, path: str = "voice") -> str:
    if not voice:
        return card.default_voice
    ids = [each.id for each in card.voices]
    if not ids:
        raise Invalid(f"{path}: {card.name} has no voices, so {short(voice)!r} is none", path)
    # A card whose voices are files lists them all, and a name must be one of them: its digest is part of the job.
    found = voices.listed(voice, ids) if card.voices[0].sha256 else voices.nearest(voice, ids)
    if found is None:
        raise Invalid(f"{path}: {card.name} has no {short(voice)!r}{voices.hint(voice, ids, card.name)}", path)
    return found


def _with_voices(job: wire.Job, card: ModelCard) -> list[Turn]:
    """The script of a job whose own voice is known, each turn with its voice. Raises Invalid with the turn's place."""
    known: dict[str, str] = {"": ""}
    for index, turn in enumerate(job.script):
        if turn.voice not in known:
            known[turn.voice] = _voice(turn.voice, card, f"script[{index}].voice")
    named = [msgspec.structs.replace(turn, voice=known[turn.voice]) for turn in job.script]
    return script.with_voices(named, job.voice, card.voices)


def _digests(job: wire.Job, card: ModelCard) -> dict[str, str]:
    """The digest of each voice that the job speaks with; that of a speaker is the voice's."""
    known = {voice.id: voice.sha256 for voice in card.voices}
    names = {turn.voice for turn in job.script} or {job.voice}
    return {name: known.get(name) or known.get(name.partition("+")[0], "") for name in names}
