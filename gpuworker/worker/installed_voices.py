"""The installed voices of a worker's models: on their cards, and found for a job. No restart is needed for either."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from bus import wire
from bus.blobs.voices import InstalledVoice, VoiceRecords, listed
from bus.bound import SpokenText
from bus.fleet.messages import ModelCard
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from bus.voices import REFERENCE

log = logger(__name__)


class InstalledVoices:
    """Keeps the cards in step with the records while `run` does."""

    def __init__(self, bus: Bus, cards: dict[str, ModelCard], on_change: Callable[[], None]) -> None:
        """`cards`: by model, as the engines declare them; a card whose voices change is replaced in it."""
        self._records = VoiceRecords(bus)
        self._own = dict(cards)
        self._cards = cards
        self._on_change = on_change
        self._voices: list[InstalledVoice] = []
        #: Models of this worker that have records.
        self.models: set[str] = set()

    async def run(self) -> None:
        """Follow the records until cancelled."""
        await self._records.watch(self._changed)

    def _changed(self, voices: list[InstalledVoice]) -> None:
        self._voices = [each for each in voices if self._serves(each)]
        self.models.clear()
        self.models.update(each.model for each in self._voices)
        shown = listed(self._voices)
        cards = {model: _with_voices(own, shown) for model, own in self._own.items()}
        if cards != self._cards:
            self._cards.update(cards)
            log.info("voices.changed", listed=[each.name for each in shown])
            self._on_change()

    def _serves(self, voice: InstalledVoice) -> bool:
        card = self._own.get(voice.model)
        return card is not None and card.rate_hz == voice.rate_hz

    async def of(self, job: wire.Job) -> list[InstalledVoice]:
        """The installed voices that `job` speaks with, each that which it was accepted with.

        A voice that the engine has itself is none of them, nor is one that no record has. Raises Unreachable.
        """
        wanted = {name: digest for name, digest in _voices_of(job) if not self._has_itself(job.model, name, digest)}
        found = self._find(job.model, wanted)
        if len(found) < len(wanted):  # accepted by a gateway that knew of it before this worker
            self._changed(await self._records.all())
            found = self._find(job.model, wanted)
        return found

    def _has_itself(self, model: str, name: str, digest: str) -> bool:
        own = {voice.id: voice.sha256 for voice in self._own[model].voices}
        return name in own and digest in {"", own[name]}

    def _find(self, model: str, wanted: dict[str, str]) -> list[InstalledVoice]:
        of_model = [each for each in self._voices if each.model == model]
        current = {each.name: each for each in listed(of_model)}
        exact = {(each.name, each.sha256): each for each in of_model}
        found = [exact.get((name, digest)) if digest else current.get(name) for name, digest in wanted.items()]
        return [each for each in found if each is not None]


def _voices_of(job: wire.Job) -> Iterator[tuple[str, str]]:
    """(name without its speaker, digest or "") of each voice that a job names."""
    if REFERENCE in job.inputs:
        return
    for voice in {job.voice, *(turn.voice for turn in job.script)} - {""}:
        yield voice.partition("+")[0], job.voice_digests.get(voice, "")


def _with_voices(own: ModelCard, shown: Iterable[InstalledVoice]) -> ModelCard:
    """The card of an engine with the voices that are installed for it; one that it has itself goes first."""
    installed = [each for each in shown if each.model == own.name]
    known = {voice.id for voice in own.voices}
    added = [voice for each in installed for voice in each.voices if voice.id not in known]
    bound = own.bound
    for each in installed:
        if isinstance(bound, SpokenText):
            bound = msgspec.structs.replace(bound, pace=each.pace | bound.pace, reads=each.reads | bound.reads)
    voices = [*own.voices, *added]
    return msgspec.structs.replace(
        own,
        voices=voices,
        languages=sorted({voice.language for voice in voices}),
        default_voice=own.default_voice or next((voice.id for voice in voices), ""),
        bound=bound,
    )
