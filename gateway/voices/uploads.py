"""Uploads, replaces and deletes the voices of tenants."""

import asyncio
import contextlib
import math
from collections.abc import Collection
from typing import Final

import msgspec

from bus.blobs.store import BlobStore
from bus.blobs.upload import uploading
from bus.blobs.uploaded import UploadedVoice, UploadedVoices, new_voice_id
from bus.errors import Conflict, NotFound, TooMany
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from gateway.access.caller import Caller
from gateway.codecs.clips import RATE_HZ, Clip, ClipDecoder
from gateway.limits.blob_room import BlobRoom
from gateway.settings import GatewaySettings
from gateway.voices.naming import check_consent, check_name, check_text

log = logger(__name__)

#: Lengths of a clip, seconds.
MIN_CLIP_S: Final = 1.0
MAX_CLIP_S: Final = 120.0
#: Replaced clips whose digests a voice knows: they are removed with it.
_MAX_REPLACED: Final = 16


class NewVoice(msgspec.Struct, frozen=True, kw_only=True):
    """An upload, as a client sends it."""

    name: str
    data: bytes
    #: Field of the clip, for errors.
    field: str
    mime_type: str = ""
    consent: str = ""
    ref_text: str = ""
    description: str = ""
    #: Take the place of the voice of this name, rather than be refused.
    replaces: bool = False


class VoiceUploads:
    """The uploads of one gateway."""

    def __init__(self, bus: Bus, voices: UploadedVoices, room: BlobRoom, settings: GatewaySettings) -> None:
        self.voices = voices
        self._bus = bus
        self._store = BlobStore(bus)
        self._room = room
        self._settings = settings
        #: Of a file as it is sent.
        self.max_bytes = settings.max_voice_bytes
        self._decoder = ClipDecoder(MIN_CLIP_S, MAX_CLIP_S)
        #: Of the uploads of this process one at a time looks whether there is room, and writes its record.
        self._writing = asyncio.Lock()

    async def add(self, owner: Caller, new: NewVoice, built_in: Collection[str]) -> tuple[UploadedVoice, bool]:
        """Store a voice; returns it and whether it is new or was replaced. The same upload again changes nothing.

        `built_in`: names that it may not have. Cancelling leaves no voice, or a whole one; blobs without a voice end
        after `blob_keep_s`.

        Raises Invalid, which names field, limit and value; Conflict for a name that is taken, TooMany, StorageFull,
        Overloaded, Unreachable.
        """
        name = check_name(new.name, built_in)
        text, description = check_text(new.ref_text, "ref_text"), check_text(new.description, "description")
        policy = self._settings.voice_consent or ("statement" if owner.key else "any")
        consent = check_consent(new.consent, policy)
        await self.voices.refresh()
        self._check_place(owner.tenant, name)
        clip = await self._decoder.decode(new.data, new.field)
        digest = await self._put(owner.tenant, clip.wav())
        text_digest = await self._put(owner.tenant, text.encode()) if text else ""
        now_s = self._bus.clock.now()
        voice = UploadedVoice(
            id=new_voice_id(),
            tenant=owner.tenant,
            name=name,
            digest=digest,
            text_digest=text_digest,
            ref_text=text,
            description=description,
            seconds=clip.seconds,
            rate_hz=RATE_HZ,
            num_bytes=len(clip.wav()),
            mime_type=_mime_type(new, clip),
            file_bytes=len(new.data),
            warnings=clip.warnings,
            consent=consent,
            consent_key=owner.key,
            created_at=now_s,
            uploaded_at=now_s,
        )
        async with self._writing:
            return await self._save(voice, replaces=new.replaces)

    async def _save(self, voice: UploadedVoice, *, replaces: bool) -> tuple[UploadedVoice, bool]:
        await self.voices.refresh()
        before = self.voices.find(voice.tenant, voice.name)
        if before is not None:
            if before.digests == voice.digests and not replaces:
                return before, False
            if not replaces:
                error = Conflict(
                    f"name: there is a voice {before.name!r} ({before.id}) with another clip or text; delete it, or "
                    "send `replace=true`"
                )
                error.path = "name"
                raise error
            replaced = [*before.replaced, *(before.digests - voice.digests)][-_MAX_REPLACED:]
            voice = msgspec.structs.replace(
                voice, id=before.id, name=before.name, created_at=before.created_at, replaced=replaced
            )
        else:
            self._check_place(voice.tenant, voice.name)
        await self.voices.save(voice, before)
        log.info("voice.uploaded", voice=voice.id, digest=voice.digest, tenant=voice.tenant, key=voice.consent_key)
        return voice, True

    def _check_place(self, tenant: str, name: str) -> None:
        """Raises TooMany if a voice of a new name would be one too many."""
        allowed = self._settings.max_voices
        num_voices = len(self.voices.by_tenant.get(tenant, ()))
        if num_voices < allowed or self.voices.find(tenant, name) is not None:
            return
        error = TooMany(f"max_voices: tenant {tenant} has {num_voices} uploaded voices, the limit is {allowed}")
        error.limit = "max_voices"
        error.scope = "tenant"
        error.allowed = float(allowed)
        error.left = 0.0
        raise error

    async def _put(self, tenant: str, data: bytes) -> str:
        """The digest of a blob of the tenant with these bytes. Raises TooMany, StorageFull, Unreachable."""
        with self._room.place(tenant) as place:
            await place.grow(len(data))
            async with uploading(self._bus, self._store, tenant) as upload:
                await upload.write(data)
                blob, _ = await upload.commit(self._bus.clock.now() + self._settings.blob_keep_s)
        return blob.digest

    async def delete(self, tenant: str, name: str) -> UploadedVoice:
        """Erase a voice of the tenant, with its clip, whatever jobs wait for it. Raises NotFound, Conflict.

        Cancelling leaves the voice, or removes it; blobs that are left then end at the deadlines of their jobs.
        """
        voice = await self.voices.get(tenant, name)
        await self.voices.remove(voice)
        for digest in sorted(voice.digests | {*voice.replaced}):
            if not self.voices.names(tenant, digest):
                with contextlib.suppress(NotFound):
                    await self._store.delete(tenant, digest, math.inf)
        log.info("voice.deleted", voice=voice.id, digest=voice.digest, tenant=tenant)
        return voice


def _mime_type(new: NewVoice, clip: Clip) -> str:
    is_plain = new.mime_type.isascii() and new.mime_type.isprintable() and 0 < len(new.mime_type) <= 100
    return new.mime_type if is_plain else f"audio/{clip.container.partition(',')[0]}"
