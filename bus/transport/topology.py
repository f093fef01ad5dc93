"""Declares streams and consumers; idempotent.

A declaration never changes the subjects of a stream or the filter of a consumer: two deployments, or two versions, that
disagree about those would take each other's messages. It does adjust limits to the settings.
"""

from typing import Any

from bus.blob_names import BlobNames, UploadedNames
from bus.errors import ApiError, TopologyMismatch
from bus.settings import BusSettings
from bus.subjects import LANES, Subjects
from bus.transport.jetstream import JetStream, is_missing_stream
from bus.transport.stream_configs import (
    Bucket,
    blobs_stream,
    bucket_stream,
    consumer,
    dead_stream,
    hooks_consumer,
    hooks_stream,
    jobs_stream,
    links_stream,
    replies_stream,
    uploaded_stream,
    usage_stream,
)

_CONSUMER_NOT_FOUND = 10014
_STREAM_NAME_IN_USE = 10058
#: Fields of an existing stream or consumer that a declaration never changes.
_FIXED_STREAM = ("subjects", "retention", "storage")
_FIXED_CONSUMER = ("filter_subject", "ack_policy")


class Topology:
    """The streams and consumers of one deployment. All methods raise TopologyMismatch, ApiError and Unreachable."""

    def __init__(self, js: JetStream, subjects: Subjects, settings: BusSettings) -> None:
        self._js = js
        self._subjects = subjects
        self._settings = settings

    async def declare_streams(self, patience_s: float | None = None) -> None:
        """Create JOBS, REPLIES and DEAD if they are missing, and adjust their limits.

        `patience_s`: limit for each of them; None: the setting `election_patience_s`.
        """
        for make in (jobs_stream, replies_stream, dead_stream):
            await self._declare_stream(make(self._subjects, self._settings), patience_s)

    async def declare_bucket(self, kind: Bucket) -> None:
        """Create a KV bucket if it is missing, with as many replicas as JOBS has.

        For operators, and that of keys for gateways where nats-server has no users: one that may create streams over
        the keys' subjects could write keys.
        """
        replicas = await _num_replicas(self._js, self._subjects)
        await self._declare_stream(bucket_stream(kind, self._subjects.root, replicas))

    async def declare_usage(self) -> None:
        """Create the stream of audio counters if it is missing."""
        await self._declare_stream(usage_stream(self._subjects, self._settings))

    async def declare_links(self) -> None:
        """Create the stream of revoked links if it is missing."""
        await self._declare_stream(links_stream(self._subjects, self._settings))

    async def declare_hooks(self) -> None:
        """Create the queue of pending webhook events, and its consumer, if they are missing."""
        await self._declare_stream(hooks_stream(self._subjects, self._settings))
        await self._declare_consumer(hooks_consumer(self._subjects), self._subjects.hooks_stream)

    async def declare_blobs(self) -> None:
        """Create the bucket of blobs if it is missing."""
        await self._declare_stream(blobs_stream(BlobNames(self._subjects.root), self._settings))

    async def declare_uploaded(self) -> None:
        """Create the bucket of uploaded voices if it is missing."""
        await self._declare_stream(uploaded_stream(UploadedNames(self._subjects.root), self._settings))

    async def declare_consumers(self, model: str, version: str) -> list[str]:
        """Create a consumer of JOBS for each lane if it is missing; return their names, highest lane first."""
        names = []
        for lane in LANES:
            config = consumer(self._subjects, self._settings, model, version, lane)
            await self._declare_consumer(config, self._subjects.jobs_stream)
            names.append(str(config["name"]))
        return names

    async def _declare_stream(self, wanted: dict[str, Any], patience_s: float | None = None) -> None:
        name = wanted["name"]

        async def once() -> dict[str, Any]:
            try:
                return await self._js.api(f"STREAM.INFO.{name}")
            except ApiError as error:
                if not is_missing_stream(error):
                    raise
            try:
                return await self._js.api(f"STREAM.CREATE.{name}", wanted)
            except ApiError as error:
                if error.err_code != _STREAM_NAME_IN_USE:
                    raise
                return await self._js.api(f"STREAM.INFO.{name}")  # another process created it meanwhile

        found = (await self._js.retry(f"declare stream {name}", once, patience_s))["config"]
        _check_same(f"stream {name}", _FIXED_STREAM, wanted, found)
        if any(found.get(key) != value for key, value in wanted.items() if key not in _FIXED_STREAM):
            await self._js.api(f"STREAM.UPDATE.{name}", {**found, **wanted})

    async def _declare_consumer(self, wanted: dict[str, Any], stream: str) -> None:
        name = wanted["name"]

        async def once() -> dict[str, Any]:
            try:
                return await self._js.api(f"CONSUMER.INFO.{stream}.{name}")
            except ApiError as error:
                if error.err_code != _CONSUMER_NOT_FOUND:
                    raise
            request = {"stream_name": stream, "config": wanted, "action": "create"}
            try:
                return await self._js.api(f"CONSUMER.CREATE.{stream}.{name}.{wanted['filter_subject']}", request)
            except ApiError as error:
                try:
                    return await self._js.api(f"CONSUMER.INFO.{stream}.{name}")  # another worker created it meanwhile
                except ApiError:
                    raise error from None

        found = (await self._js.retry(f"declare consumer {name}", once))["config"]
        _check_same(f"consumer {name}", _FIXED_CONSUMER, wanted, found)
        if any(found.get(key) != value for key, value in wanted.items() if key not in _FIXED_CONSUMER):
            request = {"stream_name": stream, "config": {**found, **wanted}, "action": "update"}
            await self._js.api(f"CONSUMER.CREATE.{stream}.{name}.{wanted['filter_subject']}", request)


async def _num_replicas(js: JetStream, subjects: Subjects) -> int:
    jobs = await js.info(subjects.jobs_stream)
    return int(jobs["config"]["num_replicas"])


def _check_same(name: str, keys: tuple[str, ...], wanted: dict[str, Any], found: dict[str, Any]) -> None:
    for key in keys:
        if found.get(key) != wanted[key]:
            raise TopologyMismatch(f"{name} exists with {key} {found.get(key)!r}, this version needs {wanted[key]!r}")
