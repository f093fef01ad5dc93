"""What streams and consumers there are: configurations as the server takes them. Pure."""

from typing import Any, Final

from bus.settings import BusSettings
from bus.subjects import Subjects

_NS: Final = 1_000_000_000
#: Every pull must name it, or the server refuses it.
PRIORITY_GROUP: Final = "workers"
#: Of all gateways together.
HOOKS_CONSUMER: Final = "gateways"


def jobs_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """The work queue: a job leaves it when its worker acknowledges."""
    rest = {"discard": "new", "max_bytes": settings.jobs_max_bytes, "max_msg_size": settings.max_job_bytes}
    return _stream(subjects.jobs_stream, [subjects.all_jobs], settings.replicas, retention="workqueue", **rest)


def replies_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """The logs: births, entries, leases."""
    source, destination = subjects.republish
    return _stream(
        subjects.replies_stream,
        [subjects.all_births, subjects.all_entries, subjects.all_leases],
        settings.replicas,
        # `old` would delete a running job's lease first and fence a healthy worker.
        discard="new",
        max_bytes=settings.replies_max_bytes,
        max_age=int(settings.replies_max_age_s * _NS),
        # Longer than the patience of any append with its last attempt: a repeat not known would be stored twice.
        duplicate_window=180 * _NS,
        republish={"src": source, "dest": destination},
    )


def dead_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """Jobs given up on."""
    return _stream(subjects.dead_stream, [subjects.dead], settings.replicas, discard="old", max_bytes=256 << 20)


def keys_stream(subjects: Subjects, replicas: int) -> dict[str, Any]:
    """A KV bucket, as the `nats kv` command would make it, that rings a bell at every change."""
    source, destination = subjects.keys_republish
    return _stream(
        subjects.keys_stream,
        [subjects.all_keys],
        replicas,
        discard="new",
        max_msgs_per_subject=1,
        max_bytes=64 << 20,
        allow_rollup_hdrs=True,
        deny_delete=True,
        republish={"src": source, "dest": destination, "headers_only": True},
    )


def usage_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """Counters of the server's: a publish adds, with its own compare-and-set, and one job adds only once."""
    return _stream(
        subjects.usage_stream,
        [subjects.all_usage],
        settings.replicas,
        # To forget what was used longest ago is better than to refuse sound because the book is full.
        discard="old",
        max_msgs_per_subject=1,
        max_bytes=16 << 20,
        max_age=3 * 86_400 * _NS,
        allow_msg_counter=True,
    )


def hooks_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """One message per job, but for the moment in which a step takes the place of the one before.

    No limit per subject: what was removed by one comes back when the server is killed after what replaced it was
    acknowledged, and nobody is offered it again.
    """
    rest = {"discard": "new", "max_msgs_per_subject": -1, "max_bytes": 64 << 20}
    return _stream(subjects.hooks_stream, [subjects.all_hooks], settings.replicas, retention="workqueue", **rest)


def _stream(name: str, subjects: list[str], replicas: int, **rest: object) -> dict[str, Any]:
    """What all streams have in common, unless `rest` says otherwise."""
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
    # Longer than one try to send.
    return _consumer(HOOKS_CONSUMER, subjects.all_hooks, 20.0)


def consumer(subjects: Subjects, settings: BusSettings, model: str, version: str, lane: str) -> dict[str, Any]:
    """Of one lane of one version of a model."""
    return _consumer(
        subjects.consumer(model, version, lane),
        subjects.jobs_of(model, version, lane),
        settings.ack_wait_s,
        max_waiting=8192,
        # Backups pull at a lower priority: they are served when no primary waits.
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
        # Attempts are counted by us (a job's in its lease): the server must never give one up on its own.
        "max_deliver": -1,
        "max_ack_pending": 100_000,
        **rest,
    }
