"""Installed voices: records in the KV bucket `<ROOT>_VOICES`, each with the digests of its files in the blobs.

A record has the digest of its voice in its key, so a name may have several over time, of which one is listed. One that
was removed or replaced stays for as long as a job may still name it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

from bus import wire
from bus.blob_names import VoiceNames
from bus.errors import ApiError, BusError, Conflict, Malformed, NotFound
from bus.fleet.messages import Voice
from bus.jobs.client import Bus
from bus.options import MAX_DEADLINE_S
from bus.telemetry.logging import logger
from bus.transport.bucket import entries
from bus.transport.direct import Stored
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE

log = logger(__name__)

#: A removed voice stays for the longest deadline of a job that was accepted with it, and an hour.
KEEP_REMOVED_S: Final = MAX_DEADLINE_S + 3600.0
#: Notifications of changes may be lost.
_POLL_S: Final = 10.0
_TRIES: Final = 10


class InstalledVoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The record of a voice that an operator has installed."""

    #: The model that speaks with it.
    model: str
    #: The value of a job's `voice`, one subject token.
    name: str
    #: `bus.voices.files_digest` of its files.
    sha256: str
    #: Digest of the blob of each file, by the file's name, which has a dot.
    files: dict[str, str]
    num_bytes: int
    #: Only workers whose model has this rate serve it.
    rate_hz: int
    #: As the model's card lists them: the voice, and its speakers.
    voices: list[Voice]
    #: Of `bus.bound.SpokenText`: what the voice adds to the bound of its model.
    pace: dict[str, float] = {}
    reads: dict[str, list[str]] = {}
    #: The text of its licence, as the operator saw it; "" if its publisher gave none.
    licence: str = ""
    #: The folder or the URL that it came from.
    source: str = ""
    #: Unix seconds, the bus's clock.
    installed_at: float = 0.0
    #: 0: it is listed. Else jobs that were accepted with it may still be spoken.
    removed_at: float = 0.0


class VoiceRecords:
    """Reads and changes the records. All methods raise Unreachable and ApiError."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._names = VoiceNames(bus.subjects.root)

    async def all(self) -> list[InstalledVoice]:
        """Every record, removed ones too, oldest first; none without a bucket."""
        return sorted(await self._read(), key=lambda voice: (voice.installed_at, voice.sha256))

    async def _read(self) -> list[InstalledVoice]:
        found = entries(self._bus.js, self._names.stream, self._names.all)
        return [voice async for stored in found if (voice := _decode(stored)) is not None]

    async def files(self) -> set[str]:
        """Digests of the blobs that a record names, unless it was removed so long ago that no job can name it."""
        oldest_s = self._bus.clock.now() - KEEP_REMOVED_S
        kept = [voice for voice in await self.all() if not voice.removed_at or voice.removed_at > oldest_s]
        return {digest for voice in kept for digest in voice.files.values()}

    async def install(self, voice: InstalledVoice) -> bool:
        """List a voice whose files are stored, in the place of others of its name; False if it is listed already.

        Makes the bucket if it is missing. Raises Conflict if others change it all the time.
        """
        await self._bus.topology.declare_bucket("voices")
        is_new = await self._change(voice, lambda old: None if old is not None and not old.removed_at else voice)
        for other in await self._current(voice.model, voice.name):
            if other.sha256 != voice.sha256 and _is_older(other, voice):
                await self._remove(other)
        return is_new

    async def remove(self, model: str, name: str) -> list[InstalledVoice]:
        """Take a voice off the list; jobs that were accepted with it go on. Raises NotFound, Conflict."""
        found = await self._current(model, name)
        if not found:
            raise NotFound(f"voice: {name!r} of {model} is not installed")
        for voice in found:
            await self._remove(voice)
        return found

    async def _current(self, model: str, name: str) -> list[InstalledVoice]:
        return [each for each in await self.all() if (each.model, each.name) == (model, name) and not each.removed_at]

    async def _remove(self, voice: InstalledVoice) -> None:
        now_s = self._bus.clock.now()
        await self._change(
            voice,
            lambda old: None if old is None or old.removed_at else msgspec.structs.replace(old, removed_at=now_s),
        )

    async def _change(
        self, voice: InstalledVoice, changed: Callable[[InstalledVoice | None], InstalledVoice | None]
    ) -> bool:
        """Replace the record of `voice` by what `changed` makes of it; False if that is None."""
        subject = self._names.record(voice.model, voice.name, voice.sha256)
        for _ in range(_TRIES):
            stored = await self._bus.js.last(self._names.stream, subject)
            wanted = changed(None if stored is None else _decode(stored))
            if wanted is None:
                return False
            try:
                headers = {EXPECT_LAST: str(stored.seq if stored is not None else 0)}
                await self._bus.js.publish(subject, wire.encode(wanted), headers)
            except ApiError as error:
                if error.err_code != WRONG_LAST_SEQUENCE:
                    raise
                continue  # another process, or our own if its acknowledgement was lost: look again
            return True
        raise Conflict(f"voice {voice.name!r} was changed by other processes {_TRIES} times meanwhile")

    async def watch(self, on_change: Callable[[list[InstalledVoice]], None]) -> None:
        """Call `on_change` with all records now and after each change, until cancelled. Failures are logged."""
        changed, known = asyncio.Event(), None
        changes = self._bus.connection.subscribe(self._names.all_changes, lambda _: changed.set())
        try:
            while True:
                changed.clear()
                try:
                    found = await self.all()
                except BusError as error:
                    log.warning("voices.load_failed", error=str(error))
                else:
                    if found != known:
                        known = found
                        on_change(found)
                try:
                    async with asyncio.timeout(_POLL_S):
                        await changed.wait()
                except TimeoutError:
                    continue  # no notification: look all the same
        finally:
            changes.close()


def listed(voices: Iterable[InstalledVoice]) -> Collection[InstalledVoice]:
    """Those that are not removed; of several of one name the newest."""
    newest: dict[tuple[str, str], InstalledVoice] = {}
    for voice in voices:
        other = newest.get((voice.model, voice.name))
        if not voice.removed_at and (other is None or _is_older(other, voice)):
            newest[voice.model, voice.name] = voice
    return newest.values()


def _is_older(voice: InstalledVoice, other: InstalledVoice) -> bool:
    return (voice.installed_at, voice.sha256) < (other.installed_at, other.sha256)


def _decode(stored: Stored) -> InstalledVoice | None:
    """The record of an entry; None if it was deleted by hand or is malformed, which is logged."""
    if stored.message.header("KV-Operation") is not None:
        return None
    try:
        return wire.decode(InstalledVoice, stored.message.data)
    except Malformed as error:
        log.warning("voices.entry_invalid", subject=stored.message.subject, error=str(error))
        return None
