"""Blobs on a real server: put, read, hold, remove; what a killed process leaves; two that put the same."""

import asyncio
import hashlib
import secrets

import msgspec
import nats
import pytest

from bus.blobs.blob import CHUNK_BYTES, VOICES, Blob
from bus.blobs.reading import BlobDamaged, read_blob
from bus.blobs.retention import BlobRetention
from bus.blobs.store import BlobStore
from bus.blobs.upload import uploading
from bus.blobs.uploaded import UploadedVoices
from bus.blobs.voices import InstalledVoice, VoiceRecords
from bus.errors import Conflict, NotFound, StorageFull, Unreachable
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings

DATA = secrets.token_bytes(2 * CHUNK_BYTES + 77)
DIGEST = hashlib.sha256(DATA).hexdigest()
HOUR_S = 3600.0


@pytest.fixture
def store(bus: Bus) -> BlobStore:
    return BlobStore(bus)


async def put(bus: Bus, store: BlobStore, data: bytes = DATA, owner: str = "acme", keep_s: float = HOUR_S) -> Blob:
    async with uploading(bus, store, owner) as upload:
        for start in range(0, len(data), 50_000):
            await upload.write(data[start : start + 50_000])
        return (await upload.commit(bus.clock.now() + keep_s))[0]


async def read(bus: Bus, blob: Blob) -> bytes:
    return b"".join([piece async for piece in read_blob(bus, blob)])


async def test_a_blob_reads_back_as_it_was_put_and_has_an_objects_record(bus: Bus, store: BlobStore) -> None:
    blob = await put(bus, store)
    assert (blob.digest, blob.num_bytes, blob.num_chunks) == (DIGEST, len(DATA), 3)
    assert await read(bus, (await store.get("acme", DIGEST)).blob) == DATA
    stored = await bus.js.last(store.names.stream, store.names.record("acme", DIGEST))
    assert stored is not None
    shown = msgspec.json.decode(stored.message.data)
    assert (shown["name"], shown["size"], shown["chunks"]) == (f"acme/{DIGEST}", len(DATA), 3)


async def test_any_client_of_nats_reads_the_bucket_as_objects(bus: Bus, store: BlobStore) -> None:
    await put(bus, store)
    client = await nats.connect(bus.settings.nats)
    try:
        objects = await client.jetstream().object_store(store.names.bucket)
        assert [each.name for each in await objects.list()] == [f"acme/{DIGEST}"]
        assert (await objects.get(f"acme/{DIGEST}")).data == DATA
    finally:
        await client.close()


async def test_an_empty_bucket_and_a_missing_one_have_no_blob(bus: Bus, store: BlobStore) -> None:
    assert await store.find("acme", DIGEST) is None
    assert await store.num_chunks() == {}
    await BlobRetention(bus, UploadedVoices(bus)).look()
    await bus.topology.declare_blobs()
    with pytest.raises(NotFound, match=DIGEST):
        await store.get("acme", DIGEST)
    with pytest.raises(NotFound, match="no SHA-256"):
        await store.get("acme", "../x")
    await BlobRetention(bus, UploadedVoices(bus)).look()


async def test_a_digest_of_another_tenant_is_unknown(bus: Bus, store: BlobStore) -> None:
    await put(bus, store)
    with pytest.raises(NotFound):
        await store.get("other", DIGEST)
    await put(bus, store, owner="other")
    await store.delete("acme", DIGEST, bus.clock.now())
    assert await read(bus, (await store.get("other", DIGEST)).blob) == DATA


async def test_two_equal_puts_at_once_are_one_blob_and_leave_no_chunk_of_the_other(bus: Bus, store: BlobStore) -> None:
    blobs = await asyncio.gather(*(put(bus, store) for _ in range(5)))
    assert {blob.upload for blob in blobs} == {blobs[0].upload}
    assert await store.num_chunks() == {blobs[0].upload: 3}
    assert await read(bus, blobs[0]) == DATA


async def test_an_upload_that_is_cut_leaves_nothing(bus: Bus, store: BlobStore) -> None:
    with pytest.raises(ConnectionResetError):
        async with uploading(bus, store, "acme") as upload:
            await upload.write(DATA)
            assert await store.num_chunks() == {upload.id: 2}
            raise ConnectionResetError
    assert await store.num_chunks() == {}
    assert await store.find("acme", DIGEST) is None


async def test_what_a_killed_process_leaves_is_purged_once_it_is_old_and_nothing_else(
    bus: Bus, store: BlobStore
) -> None:
    whole = await put(bus, store, b"whole")
    async with uploading(bus, store, "acme") as left:
        await left.write(DATA)
        await BlobRetention(bus, UploadedVoices(bus)).look()
        assert (await store.num_chunks()).keys() == {whole.upload, left.id}, "an upload in progress stays"
        await BlobRetention(bus, UploadedVoices(bus), orphan_s=0.0).look()
        assert (await store.num_chunks()).keys() == {whole.upload}
        with pytest.raises(Unreachable, match="2 of its 3 chunks were removed"):
            await left.commit(bus.clock.now() + HOUR_S)
    assert await read(bus, whole) == b"whole"


async def test_a_blob_is_purged_after_its_time_and_not_while_a_job_or_a_voice_has_it(
    bus: Bus, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, held = await put(bus, store, b"over", keep_s=-1), await put(bus, store, b"held", keep_s=-1)
    voice = await put(bus, store, b"voice", owner=VOICES, keep_s=-1)
    await store.keep("acme", held.digest, held_until=bus.clock.now() + 60)

    record = InstalledVoice(
        model="piper",
        name="v",
        sha256="0" * 64,
        files={"v.onnx": voice.digest, "x": over.digest},
        num_bytes=5,
        rate_hz=22_050,
        voices=[],
    )
    await VoiceRecords(bus).install(record)
    await BlobRetention(bus, UploadedVoices(bus)).look()
    assert (await store.num_chunks()).keys() == {held.upload, voice.upload}
    assert await store.find("acme", over.digest) is None
    await VoiceRecords(bus).remove("piper", "v")
    await BlobRetention(bus, UploadedVoices(bus)).look()
    assert (await store.num_chunks()).keys() == {held.upload, voice.upload}, "a job may still name the voice"
    monkeypatch.setattr("bus.blobs.voices.KEEP_REMOVED_S", -1.0)
    await BlobRetention(bus, UploadedVoices(bus)).look()
    assert (await store.num_chunks()).keys() == {held.upload}


async def test_a_blob_that_an_accepted_job_names_is_not_deleted(bus: Bus, store: BlobStore) -> None:
    await put(bus, store)
    now_s = bus.clock.now()
    await store.keep("acme", DIGEST, held_until=now_s + 60)
    with pytest.raises(Conflict, match="an accepted job names"):
        await store.delete("acme", DIGEST, now_s)
    await store.delete("acme", DIGEST, now_s + 61)
    assert await store.num_chunks() == {}
    with pytest.raises(NotFound):
        await store.delete("acme", DIGEST, now_s + 61)


async def test_a_blob_that_is_kept_meanwhile_is_not_removed(bus: Bus, store: BlobStore) -> None:
    await put(bus, store, keep_s=-1)
    found = await store.get("acme", DIGEST)
    await store.keep("acme", DIGEST, held_until=bus.clock.now() + 60)
    assert not await store.remove(found)
    assert await read(bus, (await store.get("acme", DIGEST)).blob) == DATA


async def test_keeping_never_shortens(bus: Bus, store: BlobStore) -> None:
    first = await put(bus, store)
    kept = await store.keep("acme", DIGEST, expires_at=1.0, held_until=1.0)
    assert (kept.expires_at, kept.held_until) == (first.expires_at, 1.0)
    again = await put(bus, store, keep_s=2 * HOUR_S)
    assert again.expires_at > first.expires_at


async def test_a_damaged_blob_is_an_error_before_its_last_piece_and_a_put_repairs_it(
    bus: Bus, store: BlobStore
) -> None:
    blob = await put(bus, store)
    await bus.js.api(f"STREAM.PURGE.{store.names.stream}", {"filter": store.names.chunks(blob.upload), "keep": 2})
    pieces = []
    with pytest.raises(BlobDamaged, match="2 of 3 chunks"):
        async for piece in read_blob(bus, blob):
            pieces.append(piece)  # noqa: PERF401 - those before the error count too
    assert len(pieces) < 2
    assert await read(bus, await put(bus, store)) == DATA


async def test_a_full_bucket_refuses_and_keeps_what_it_has(bus_settings: BusSettings) -> None:
    small = msgspec.structs.replace(bus_settings, blobs_max_bytes=3 * CHUNK_BYTES)
    async with open_bus(small, "test") as bus:
        store = BlobStore(bus)
        first = await put(bus, store, b"first")
        with pytest.raises(StorageFull, match="no room"):
            await put(bus, store, secrets.token_bytes(4 * CHUNK_BYTES))
        assert await store.num_chunks() == {first.upload: 1}
        assert await read(bus, first) == b"first"
