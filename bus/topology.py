"""Streams and consumers, declared idempotently through one raw helper.

The helper never changes the subjects of a stream or the filter of a consumer: two deployments, or two versions, that
disagree about those would take each other's messages. Limits may be raised and lowered by editing settings.
"""

from typing import Any, Final

from bus.errors import ApiError, TopologyMismatch
from bus.jetstream import JetStream, is_missing_stream
from bus.settings import BusSettings
from bus.subjects import LANES, Subjects

_NS = 1_000_000_000
_CONSUMER_NOT_FOUND = 10014
_STREAM_NAME_IN_USE = 10058
#: Fields a declaration may never change on what already exists.
_FIXED_STREAM = ("subjects", "retention", "storage")
_FIXED_CONSUMER = ("filter_subject", "ack_policy")
#: Every pull must name it, or the server refuses it.
PRIORITY_GROUP: Final = "workers"
#: Of all gateways together.
HOOKS_CONSUMER: Final = "gateways"


def jobs_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    return {
        "name": subjects.jobs_stream,
        "subjects": [subjects.all_jobs],
        "retention": "workqueue",
        "storage": "file",
        "discard": "new",
        "max_bytes": settings.jobs_max_bytes,
        "max_msg_size": settings.max_job_bytes,
        "num_replicas": settings.replicas,
        "duplicate_window": 120 * _NS,
        "allow_direct": True,
    }


def replies_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    source, destination = subjects.republish
    return {
        "name": subjects.replies_stream,
        "subjects": [subjects.all_births, subjects.all_entries, subjects.all_leases],
        "retention": "limits",
        "storage": "file",
        # `old` would delete a running job's lease first and fence a healthy worker.
        "discard": "new",
        "max_bytes": settings.replies_max_bytes,
        "max_age": int(settings.replies_max_age_s * _NS),
        "num_replicas": settings.replicas,
        # Longer than the patience of any append with its last attempt: a repeat not known would be stored twice.
        "duplicate_window": 180 * _NS,
        "allow_direct": True,
        "republish": {"src": source, "dest": destination},
    }


def dead_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    return {
        "name": subjects.dead_stream,
        "subjects": [subjects.dead],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_bytes": 256 << 20,
        "num_replicas": settings.replicas,
        "duplicate_window": 120 * _NS,
        "allow_direct": True,
    }


def keys_stream(subjects: Subjects, replicas: int) -> dict[str, Any]:
    """A KV bucket, as the `nats kv` command would make it, that rings a bell at every change."""
    source, destination = subjects.keys_republish
    return {
        "name": subjects.keys_stream,
        "subjects": [subjects.all_keys],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": 64 << 20,
        "num_replicas": replicas,
        "duplicate_window": 120 * _NS,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "republish": {"src": source, "dest": destination, "headers_only": True},
    }


def usage_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """Counters of the server's: a publish adds, with its own compare-and-set, and one job adds only once."""
    return {
        "name": subjects.usage_stream,
        "subjects": [subjects.all_usage],
        "retention": "limits",
        "storage": "file",
        # To forget what was used longest ago is better than to refuse sound because the book is full.
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_bytes": 16 << 20,
        "max_age": 3 * 86_400 * _NS,
        "num_replicas": settings.replicas,
        "duplicate_window": 120 * _NS,
        "allow_direct": True,
        "allow_msg_counter": True,
    }


def hooks_stream(subjects: Subjects, settings: BusSettings) -> dict[str, Any]:
    """One message per job: a step replaces the one before."""
    return {
        "name": subjects.hooks_stream,
        "subjects": [subjects.all_hooks],
        "retention": "workqueue",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": 64 << 20,
        "num_replicas": settings.replicas,
        "duplicate_window": 120 * _NS,
        "allow_direct": True,
    }


def hooks_consumer(subjects: Subjects) -> dict[str, Any]:
    return {
        "name": HOOKS_CONSUMER,
        "durable_name": HOOKS_CONSUMER,
        "filter_subject": subjects.all_hooks,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        # Longer than one try to send.
        "ack_wait": 20 * _NS,
        "max_deliver": -1,
        "max_ack_pending": 100_000,
    }


def consumer(subjects: Subjects, settings: BusSettings, model: str, version: str, lane: str) -> dict[str, Any]:
    name = subjects.consumer(model, version, lane)
    return {
        "name": name,
        "durable_name": name,
        "filter_subject": subjects.jobs_of(model, version, lane),
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": int(settings.ack_wait_s * _NS),
        # Attempts are counted in the lease: the server must never give a job up on its own.
        "max_deliver": -1,
        "max_ack_pending": 100_000,
        "max_waiting": 8192,
        # Backups pull at a lower priority: they are served when no primary waits.
        "priority_policy": "prioritized",
        "priority_groups": [PRIORITY_GROUP],
    }


class Topology:
    def __init__(self, js: JetStream, subjects: Subjects, settings: BusSettings) -> None:
        self._js, self._subjects, self._settings = js, subjects, settings

    async def declare_streams(self, patience_s: float | None = None) -> None:
        """Create what is missing, adjust limits. `patience_s`: for each; None: what an election takes.

        Raises TopologyMismatch, Unreachable.
        """
        for make in (jobs_stream, replies_stream, dead_stream):
            await self._declare_stream(make(self._subjects, self._settings), patience_s)

    async def declare_keys(self) -> None:
        """Create the bucket of API keys if it is missing, with as many copies as JOBS has. For operators: a gateway
        that may make streams over the keys' subjects could write keys.
        """
        jobs = await self._js.info(self._subjects.jobs_stream)
        await self._declare_stream(keys_stream(self._subjects, int(jobs["config"]["num_replicas"])))

    async def declare_usage(self) -> None:
        """Create the counters of audio used, if they are missing. Raises TopologyMismatch, Unreachable."""
        await self._declare_stream(usage_stream(self._subjects, self._settings))

    async def declare_hooks(self) -> None:
        """Create the queue of webhooks, if it is missing. Raises TopologyMismatch, Unreachable."""
        await self._declare_stream(hooks_stream(self._subjects, self._settings))
        await self._declare_consumer(hooks_consumer(self._subjects), self._subjects.hooks_stream)

    async def declare_consumers(self, model: str, version: str) -> list[str]:
        """One consumer per lane, highest lane first; returns their names."""
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
                return await self._js.api(f"STREAM.INFO.{name}")  # another process was a moment sooner

        found = (await self._js.patiently(f"declare stream {name}", once, patience_s))["config"]
        _same(f"stream {name}", _FIXED_STREAM, wanted, found)
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
                    return await self._js.api(f"CONSUMER.INFO.{stream}.{name}")  # another worker was a moment sooner
                except ApiError:
                    raise error from None

        found = (await self._js.patiently(f"declare consumer {name}", once))["config"]
        _same(f"consumer {name}", _FIXED_CONSUMER, wanted, found)
        if any(found.get(key) != value for key, value in wanted.items() if key not in _FIXED_CONSUMER):
            request = {"stream_name": stream, "config": {**found, **wanted}, "action": "update"}
            await self._js.api(f"CONSUMER.CREATE.{stream}.{name}.{wanted['filter_subject']}", request)


def _same(what: str, keys: tuple[str, ...], wanted: dict[str, Any], found: dict[str, Any]) -> None:
    for key in keys:
        if found.get(key) != wanted[key]:
            raise TopologyMismatch(f"{what} exists with {key} {found.get(key)!r}, this version wants {wanted[key]!r}")
