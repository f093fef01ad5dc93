"""The voices of one WebSocket: what a name stands for is chosen once, and does not change while its texts arrive."""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from bus import wire
from bus.errors import Invalid, NoWorker, UnknownModel
from gateway.jobs.service import Jobs

#: A socket with more names has the rest of them resolved for each text.
_MAX_NAMES: Final = 256


class Pin(NamedTuple):
    """The model, its version and the voice that a job was resolved to."""

    model: str
    version: str
    voice: str


class PinnedVoices:
    """The pin of the first job for each model and voice that the client named."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._pins: dict[tuple[str, str], Pin] = {}

    def job(self, names: tuple[str, str], build: Callable[[Pin | None], wire.Job]) -> wire.Job:
        """The valid job of a text: by `build(pin)` where the voice of `names` still can speak it, or `build(None)`.

        `names`: of model and voice, as sent. A text that no voice of the family takes is the named model's, as always.
        Raises as `build(None)`.
        """
        found = build(None)
        answer = Pin(found.model, found.version, found.voice)
        if names not in self._pins and len(self._pins) < _MAX_NAMES:
            self._pins[names] = answer
        pin = self._pins.get(names, answer)
        is_own = not self._jobs.card(found.model, found.version).family
        if pin == answer or (is_own and found.model != pin.model):
            return found
        try:
            # A repeat of the request is compared by what the client sent.
            return msgspec.structs.replace(build(pin), requested=found.requested)
        except (Invalid, UnknownModel, NoWorker):  # it was removed, or does not take this text
            return found
