"""Uploaded voices: records in the KV bucket `<ROOT>_UPLOADED`, each of a tenant's clip in the blobs.

A gateway has all records in memory, so that a request for one costs no message. It sees the changes of other gateways
by a notification, or 10 s later. A record is written by compare-and-set under the SHA-256 of its name: of two uploads
of one name, one wins.
"""

import asyncio
import secrets
import unicodedata
from typing import Final

import msgspec

from bus import wire
from bus.blob_names import UploadedNames
from bus.errors import ApiError, BusError, Conflict, Malformed, NotFound
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from bus.transport.bucket import messages
from bus.transport.direct import Stored
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE, is_missing_stream

log = logger(__name__)

#: Notifications of changes may be lost.
_POLL_S: Final = 10.0
#: A marker of a removed voice may have ended before a gateway without a connection saw it.
_READ_ALL_S: Final = 600.0
_MARKER_TTL: Final = "1h"
_ID_BYTES: Final = 11


class UploadedVoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The record of a voice of a tenant."""

    #: `voice_` and 22 hexadecimal digits; it stays when the clip is replaced.
    id: str
    tenant: str
    #: Of one tenant no two differ in case only.
    name: str
    #: SHA-256 of the blob of the clip: WAV, mono, s16le.
    digest: str
    #: SHA-256 of the blob of `ref_text`; "" without.
    text_digest: str = ""
    #: What is said in the clip.
    ref_text: str = ""
    description: str = ""
    seconds: float
    rate_hz: int
    #: Of the clip as stored.
    num_bytes: int
    #: Of the file as it was sent, which is not stored.
    mime_type: str
    file_bytes: int
    #: What may be wrong with the clip: `clipped`, `quiet`.
    warnings: list[str] = []
    #: The words, or the id, with which the uploader says that the speaker agrees.
    consent: str
    #: Id of the API key that uploaded it; "" without.
    consent_key: str = ""
    #: Digests of its blobs before the clip was replaced, the latest last.
    replaced: list[str] = []
    #: Unix seconds, the bus's clock.
    created_at: float
    #: When the clip was uploaded.
    uploaded_at: float

    @property
    def digests(self) -> set[str]:
        """Of its blobs."""
        return {self.digest, self.text_digest} - {""}


def new_voice_id() -> str:
    """An id that no voice has."""
    return f"voice_{secrets.token_hex(_ID_BYTES)}"


def folded(name: str) -> str:
    """The form by which names are compared."""
    return unicodedata.normalize("NFKC", name).casefold()


class UploadedVoices:
    """The uploaded voices of one deployment. Methods that are coroutines raise Unreachable and ApiError."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._names = UploadedNames(bus.subjects.root)
        #: By tenant, then by subject. A tenant without voices has no entry.
        self.by_tenant: dict[str, dict[str, UploadedVoice]] = {}
        #: Subject by tenant and id.
        self._by_id: dict[tuple[str, str], str] = {}
        self._last_seq = 0
        self._read_all_at = 0.0
        self._reading = asyncio.Lock()

    def find(self, tenant: str, voice: str) -> UploadedVoice | None:
        """The tenant's voice with this id or name; None if this process has seen none."""
        voices = self.by_tenant.get(tenant)
        if not voices:
            return None
        subject = self._by_id.get((tenant, voice)) or self._names.record(tenant, folded(voice))
        return voices.get(subject)

    def of(self, tenant: str) -> list[UploadedVoice]:
        """The tenant's voices, oldest first."""
        return sorted(self.by_tenant.get(tenant, {}).values(), key=lambda each: (each.created_at, each.id))

    def names(self, tenant: str, digest: str) -> bool:
        """Whether a voice of the tenant has this blob."""
        return any(digest in each.digests for each in self.by_tenant.get(tenant, {}).values())

    async def get(self, tenant: str, voice: str) -> UploadedVoice:
        """As `find`, once all changes were read. Raises NotFound."""
        await self.refresh()
        found = self.find(tenant, voice)
        if found is None:
            error = NotFound(f"voice: {tenant} has uploaded no {voice[:80]!r}, or it was deleted")
            error.path = "voice"
            raise error
        return found

    async def save(self, voice: UploadedVoice, before: UploadedVoice | None) -> None:
        """Write a record in the place of `before`, None for none. Raises Conflict if the voice was changed meanwhile.

        Cancelling may leave the record written.
        """
        await self._bus.topology.declare_uploaded()
        await self._write(voice, before, wire.encode(voice), {})

    async def remove(self, voice: UploadedVoice) -> None:
        """Remove a record. Raises NotFound if another process has; Conflict if it was changed meanwhile."""
        await self._write(voice, voice, b"", {"KV-Operation": "DEL", "Nats-TTL": _MARKER_TTL})

    async def _write(
        self, voice: UploadedVoice, before: UploadedVoice | None, data: bytes, headers: dict[str, str]
    ) -> None:
        subject = self._names.record(voice.tenant, folded(voice.name))
        stored = await self._bus.js.last(self._names.stream, subject)
        current = None if stored is None else _decode(stored)
        if current is None and before is not None:
            raise NotFound(f"voice: {before.name!r} was deleted meanwhile")
        if current != before:
            raise _changed(voice)
        try:
            expected = {EXPECT_LAST: str(stored.seq if stored is not None else 0)}
            await self._bus.js.publish(subject, data, expected | headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            # It may be ours, if the answer to it was lost.
            stored = await self._bus.js.last(self._names.stream, subject)
            if stored is None or stored.message.data != data:
                raise _changed(voice) from error
        self._take(subject, voice if data else None)

    async def run(self) -> None:
        """Follow the records until cancelled. Failures are logged."""
        changed = asyncio.Event()
        changes = self._bus.connection.subscribe(self._names.all_changes, lambda _: changed.set())
        try:
            while True:
                changed.clear()
                try:
                    await self.refresh()
                except BusError as error:
                    log.warning("voices.load_failed", error=str(error))
                try:
                    async with asyncio.timeout(_POLL_S):
                        await changed.wait()
                except TimeoutError:
                    continue  # no notification: look all the same
        finally:
            changes.close()

    async def refresh(self) -> None:
        """Read what has changed since the last call; from time to time everything."""
        async with self._reading:
            now_s = asyncio.get_running_loop().time()
            if not self._read_all_at or now_s - self._read_all_at > _READ_ALL_S:
                if not await _is_declared(self._bus, self._names):
                    return
                self._last_seq = 0
            is_all = not self._last_seq
            found, seq = await _read(self._bus, self._names, self._last_seq)
            if is_all:
                self.by_tenant.clear()
                self._by_id.clear()
                self._read_all_at = now_s
            self._last_seq = seq
            for subject, voice in found.items():
                self._take(subject, voice)

    def _take(self, subject: str, voice: UploadedVoice | None) -> None:
        tenant = subject.split(".")[2]
        voices = self.by_tenant.setdefault(tenant, {})
        before = voices.pop(subject, None)
        if before is not None:
            del self._by_id[tenant, before.id]
        if voice is not None:
            voices[subject] = voice
            self._by_id[tenant, voice.id] = subject
        if not voices:
            del self.by_tenant[tenant]


async def _is_declared(bus: Bus, names: UploadedNames) -> bool:
    try:
        await bus.js.info(names.stream)
    except ApiError as error:
        if is_missing_stream(error):
            return False
        raise
    return True


async def _read(bus: Bus, names: UploadedNames, seq: int) -> tuple[dict[str, UploadedVoice | None], int]:
    """The voice of each subject that has changed after `seq`, None for a removed one, and the last sequence."""
    found: dict[str, UploadedVoice | None] = {}
    async for stored in messages(bus.js, names.stream, names.all, seq):
        found[stored.message.subject] = _decode(stored)
        seq = stored.seq
    return found, seq


def _changed(voice: UploadedVoice) -> Conflict:
    error = Conflict(f"name: voice {voice.name!r} was changed by another request meanwhile")
    error.path = "name"
    return error


def _decode(stored: Stored) -> UploadedVoice | None:
    """The record of an entry; None if it was removed, or is malformed, which is logged."""
    if stored.message.header("KV-Operation") is not None:
        return None
    try:
        return wire.decode(UploadedVoice, stored.message.data)
    except Malformed as error:
        log.warning("voices.entry_invalid", subject=stored.message.subject, error=str(error))
        return None
