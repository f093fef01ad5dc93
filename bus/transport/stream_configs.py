"""Configurations of all streams and consumers, in the form of the JetStream API. Pure."""

from typing import Any, Final, Literal

from bus.blob_names import BlobNames, UploadedNames, VoiceNames
from bus.route_names import RouteNames
from bus.settings import BusSettings
from bus.subjects import Subjects

_NS: Final = 1_000_000_000
#: Priority group of the consumers of JOBS: the server refuses a pull that does not name it.
PRIORITY_GROUP: Final = "workers"
#: Consumer of HOOKS, shared by all gateways.
HOOKS_CONSUMER: Final = "gateways"
#: The KV buckets that operators change.
Bucket = Literal["keys", "routes", "voices"]
#: The most messages that NATS' KV keeps of a key: with it the bucket of the routes is their history too.
_MAX_KV_HISTORY: Final = 64
#: `bus.access.link_keys.MAX_LINK_S`, with an hour for clocks.
_LINK_S: Final = 7 * 24 * 3600 + 3600


def jobs_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """JOBS, the work queue: a job leaves it when its worker acknowledges it."""
    rest = {"discard": "new", "max_bytes": settings.jobs_max_bytes, "max_msg_size": settings.max_job_bytes}
    return _stream(subjects.jobs_stream, [subjects.all_jobs], settings.replicas, retention="workqueue", **rest)


def replies_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """REPLIES, the logs: births, entries, leases."""
    source, destination = subjects.republish
    return _stream(
        subjects.replies_stream,
        [subjects.all_births, subjects.all_entries, subjects.all_leases],
        settings.replicas,
        # With `old` the server would delete a running job's lease first and fence a healthy worker.
        discard="new",
        max_bytes=settings.replies_max_bytes,
        max_age=int(settings.replies_max_age_s * _NS),
        # Longer than any append is repeated: a repeat with a forgotten message id would be stored twice.
        duplicate_window=180 * _NS,
        republish={"src": source, "dest": destination},
    )


def dead_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """DEAD: messages that were given up. The oldest are discarded."""
    return _stream(subjects.dead_stream, [subjects.dead], settings.replicas, discard="old", max_bytes=256 << 20)


def bucket_stream(kind: Bucket, root: str, replicas: int) -> dict[str, Any]:
    """The KV bucket of one kind that operators change."""
    subjects, routes, voices = Subjects(root), RouteNames(root), VoiceNames(root)
    if kind == "routes":
        return _kv_stream(routes.stream, routes.republish, replicas, history=_MAX_KV_HISTORY)
    if kind == "voices":
        return _kv_stream(voices.stream, voices.republish, replicas)
    return _kv_stream(subjects.keys_stream, subjects.keys_republish, replicas)


def uploaded_stream(names: UploadedNames, settings: BusSettings) -> dict[str, Any]:
    """The KV bucket of the uploaded voices; the marker of a removed one has a lifetime of its own."""
    return _kv_stream(names.stream, names.republish, settings.replicas) | {"allow_msg_ttl": True}


def _kv_stream(name: str, republish: tuple[str, str], replicas: int, *, history: int = 1) -> dict[str, Any]:
    """A KV bucket, as `nats kv` would create it, with a notification of every change. `history`: messages of a key."""
    source, destination = republish
    return _stream(
        name,
        [source],
        replicas,
        discard="new",
        max_msgs_per_subject=history,
        max_bytes=64 << 20,
        allow_rollup_hdrs=True,
        deny_delete=True,
        republish={"src": source, "dest": destination, "headers_only": True},
    )


def usage_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """USAGE, audio counters kept by the server: each publish adds to one; a message id counts a job only once."""
    return _stream(
        subjects.usage_stream,
        [subjects.all_usage],
        settings.replicas,
        # Forgetting the oldest usage is better than refusing requests because the stream is full.
        discard="old",
        max_msgs_per_subject=1,
        max_bytes=16 << 20,
        max_age=3 * 86_400 * _NS,
        allow_msg_counter=True,
    )


def blobs_stream(names: BlobNames, settings: BusSettings) -> dict[str, Any]:
    """The object bucket of the blobs, as `nats object` would create it."""
    return _stream(
        names.stream,
        [names.all_chunks, names.all_records],
        settings.replicas,
        discard="new",
        max_bytes=settings.blobs_max_bytes,
        allow_rollup_hdrs=True,
    )


def links_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """LINKS: the revoked links of each tenant, for as long as a link may live after the last change."""
    rest = {"discard": "new", "max_msgs_per_subject": 1, "max_bytes": 16 << 20, "max_age": _LINK_S * _NS}
    return _stream(subjects.links_stream, [subjects.all_links], settings.replicas, **rest)


def hooks_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """HOOKS: one message per job with pending webhook events, two while a step replaces the message before it.

    There is no limit per subject: with one, a message that it removed comes back if the server is killed just after it
    acknowledged the replacement, and is then delivered to no gateway.
    """
    rest = {"discard": "new", "max_msgs_per_subject": -1, "max_bytes": 64 << 20}
    return _stream(subjects.hooks_stream, [subjects.all_hooks], settings.replicas, retention="workqueue", **rest)


def _stream(name: str, subjects: list[str], replicas: int, **rest: object) -> dict[str, Any]:
    """Defaults of all streams, overridden by `rest`."""
    return {
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "duplicate_window": 120 * _NS,
        "allow_direct": True,
        **rest,
    }


def hooks_consumer(subjects: Subjects) -> dict[str, Any]:
    """The consumer of HOOKS."""
    # The ack wait is longer than one delivery of a webhook.
    return _consumer(HOOKS_CONSUMER, subjects.all_hooks, 20.0)


def consumer(subjects: Subjects, settings: BusSettings, model: str, version: str, lane: str) -> dict[str, Any]:
    """A consumer of JOBS: one lane of one version of a model."""
    return _consumer(
        subjects.consumer(model, version, lane),
        subjects.jobs_of(model, version, lane),
        settings.ack_wait_s,
        max_waiting=8192,
        # Backup workers pull at a lower priority: they get jobs while no primary worker waits.
        priority_policy="prioritized",
        priority_groups=[PRIORITY_GROUP],
    )


def _consumer(name: str, subject: str, ack_wait_s: float, **rest: object) -> dict[str, Any]:
    return {
        "name": name,
        "durable_name": name,
        "filter_subject": subject,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": int(ack_wait_s * _NS),
        # Attempts are counted by us, in the lease: the server must never stop redelivering on its own.
        "max_deliver": -1,
        "max_ack_pending": 100_000,
        **rest,
    }
