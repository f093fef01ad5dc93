"""Completes a request's job: fills in the defaults, and refuses every fault that is known before a worker runs it."""

import re
import time
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from bus import params, wire
from bus.errors import Invalid, NoWorker, UnknownModel
from bus.fleet.fleet import Fleet
from bus.fleet.messages import ModelCard
from bus.params import short
from bus.subjects import LANES, token
from bus.text import suggestion
from bus.transport.clock import BusClock
from bus.wire import MAX_DEADLINE_S, MAX_LINGER_S, MAX_SEED
from gateway.jobs.cache import derived_id, is_reserved

DEFAULT_MODEL: Final = "speech"
#: A gateway younger than this may not have received a heartbeat of every worker.
_DISCOVERY_S: Final = 2.5
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Validation:
    """Completes and checks jobs against the fleet's model cards and the limits of each field."""

    def __init__(self, fleet: Fleet, clock: BusClock, max_job_bytes: int) -> None:
        """`max_job_bytes`: of a job as JSON."""
        self._fleet = fleet
        self._clock = clock
        self._max_job_bytes = max_job_bytes
        self._started_at = time.monotonic()

    def card(self, model: str, version: str = "") -> ModelCard:
        """The card of a model. Raises UnknownModel, or NoWorker while it may be that its worker was not seen yet."""
        card = self._fleet.card(model)
        if card is None:
            known = self._fleet.known_models
            if not known:
                raise NoWorker("no worker has been seen yet, so no model is known; try again soon")
            if time.monotonic() - self._started_at < _DISCOVERY_S:
                raise NoWorker(f"no worker with model {short(model)!r} has been seen yet; try again soon")
            raise UnknownModel(f"model: {short(model)!r} is not offered{suggestion(model, sorted(known), limit=3)}")
        if version and version != card.version:
            offered = {card.version, *self._versions(model)}
            if version not in offered:
                hint = suggestion(version, sorted(offered), limit=3)
                unknown = UnknownModel(f"version: {short(version)!r} of {model} is not offered{hint}")
                unknown.path = "version"
                raise unknown
        return card

    def _versions(self, model: str) -> Iterable[str]:
        for seen in self._fleet.workers.values():
            yield from (card.version for card in seen.cards if card.name == model)

    def complete(self, job: wire.Job, *, streams: bool, size_hint_bytes: int) -> wire.Job:
        """`job` with every default filled in. `streams`: the API responds with the audio itself.

        A job without an id gets a random one or, if the API streams, the id that identical requests share.
        `size_hint_bytes`: size of the request's body; the size of the job is computed only if that is near the limit.

        Raises Invalid, UnknownModel or NoWorker; their texts name field, limit and value.
        """
        model = job.model or DEFAULT_MODEL
        lane = job.lane or ("interactive" if streams else "standard")
        card = self.card(model, job.version)
        if lane not in LANES:
            raise Invalid(f"lane: {short(lane)!r} is not one of {', '.join(LANES)}", "lane")
        _check_input(job.input, card.max_input_chars)
        self._check_numbers(job)
        params.check(card.param_schema, job.params)
        job = msgspec.structs.replace(
            job,
            model=model,
            version=job.version or card.version,
            voice=_voice(job.voice, card),
            lane=lane,
            run_on=(not streams) if job.run_on is None else job.run_on,
        )
        if is_reserved(job.id):
            raise Invalid(f"id: {job.id!r} has the form of ids that identical requests share", "id")
        if not job.id:
            job = msgspec.structs.replace(job, id=(streams and derived_id(job, card)) or uuid.uuid4().hex)
        try:
            token(job.id)
        except ValueError as error:
            raise Invalid(f"id: {error}", "id") from error
        if size_hint_bytes > self._max_job_bytes // 2:
            self._check_size(job)
        return job

    def _check_numbers(self, job: wire.Job) -> None:
        if not 0 <= job.seed <= MAX_SEED:
            raise Invalid(f"seed: must be from 0 to {MAX_SEED}, not {short(str(job.seed))}", "seed")
        if not 0 <= job.linger_s <= MAX_LINGER_S:
            raise Invalid(f"linger_s: must be from 0 to {MAX_LINGER_S:g}, not {job.linger_s:g}", "linger_s")
        deadline_s = job.first_audio_deadline_s
        if deadline_s is not None and not 0 < deadline_s <= MAX_DEADLINE_S:
            raise Invalid(
                f"first_audio_deadline_s: must be above 0 and at most {MAX_DEADLINE_S:g}, not {deadline_s:g}",
                "first_audio_deadline_s",
            )
        if job.expires_at is not None:
            self._check_expiry(job.expires_at)

    def _check_expiry(self, due: datetime) -> None:
        if due.tzinfo is None:
            raise Invalid(
                f"expires_at: must have an offset from UTC, as in 2030-01-01T12:00:00Z, not {due}", "expires_at"
            )
        left = timedelta(seconds=due.timestamp() - self._clock.now())
        if left <= timedelta(0):
            raise Invalid(f"expires_at: {due.isoformat()} is in the past", "expires_at")
        if left > timedelta(seconds=MAX_DEADLINE_S):
            raise Invalid(
                f"expires_at: {due.isoformat()} is {left} away, at most {MAX_DEADLINE_S / 3600:g} h are allowed",
                "expires_at",
            )

    def _check_size(self, job: wire.Job) -> None:
        size = len(wire.encode(job)) + 256  # for the fields that the gateway adds: the client, the deadline
        if size > self._max_job_bytes:
            raise Invalid(f"input: the whole job has {size} bytes, the limit is {self._max_job_bytes}", "input")


def _check_input(text: str, max_chars: int) -> None:
    if not text or text.isspace():
        raise Invalid(f"input: is empty ({short(repr(text))}), there is nothing to make audio of", "input")
    if len(text) > max_chars:
        raise Invalid(
            f"input: has {len(text)} characters, the limit is {max_chars}; it begins {short(text)!r}", "input"
        )
    control = _CONTROL.search(text)
    if control is not None:
        place, code = control.start(), ord(control[0])
        raise Invalid(
            f"input: control character U+{code:04X} at position {place}; only \\n \\t \\r are allowed", "input"
        )


def _voice(voice: str, card: ModelCard) -> str:
    if not voice:
        return card.default_voice
    ids = [each.id for each in card.voices]
    # A card does not list every name that its engine knows: `en` for its `en-…`, `de+f3` for a variant. The engine
    # decides.
    base = voice.partition("+")[0]
    if base in ids or any(name.startswith(f"{base}-") for name in ids):
        return voice
    if not ids:
        raise Invalid(f"voice: {card.name} has no voices, so {short(voice)!r} is none", "voice")
    raise Invalid(f"voice: {card.name} has no {short(voice)!r}{suggestion(voice, sorted(ids), limit=3)}", "voice")
