"""Every subject, stream and consumer name in the system. No other module spells one.

    <root>.job.<model>.<version>.<lane>.<tenant>   JOBS, work queue
    <root>.reply.<tenant>.<job>.job                REPLIES: the log's birth
    <root>.reply.<tenant>.<job>.c                  REPLIES: the log
    <root>.reply.<tenant>.<job>.lease              REPLIES: who may append
    <root>.live.<tenant>.<job>                     republish of `.c`: stored entries only
    <root>.listen.<tenant>.<job>                   core: a subscription here is a listener
    <root>.submit, <root>.submit.<tenant>          core service of the gateways
    <root>.cancel.<tenant>.<job>                   core service of the gateways
    <root>.worker.<id>.{hb,ping,stop,drain,gone}   core
    <root>.gateway.<id>.usage                      core: what limits were used there
    <root>.usage.<day>.<account>                   USAGE: milliseconds of audio, a counter of the server's
    <root>.hook.<tenant>.<job>                     HOOKS: what is still to be told of a job
    $KV.<ROOT>_KEYS.<id>                           KV bucket: API keys, hashed
    <root>.key.<id>                                republish of those, without the record: a bell

`root` separates deployments that share a server and gives each test a namespace of its own. It matches
`[a-z][a-z0-9-]{0,31}`, so that the stream names made of it (`<ROOT>_JOBS`) are one-to-one.
"""

import re
from typing import Final

import msgspec

LANES: Final = ("interactive", "standard", "batch")

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROOT = re.compile(r"[a-z][a-z0-9-]{0,31}")
#: Consumer names join tokens with a character that no token holds: with `_` two of them collided.
_JOIN = "="


def token(text: str) -> str:
    """`text` itself, if it can be one subject token.

    Dots, wildcards and spaces would change which subscribers match, so a caller's name must never reach a subject
    unchecked; and it is never rewritten, or two names could become one.

    Raises:
        ValueError: it is not 1 to 64 of `A-Z a-z 0-9 _ -`.
    """
    if not is_token(text):
        raise ValueError(f"{text[:80]!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -")
    return text


def is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


class JobSubject(msgspec.Struct, frozen=True):
    """A job subject taken apart."""

    model: str
    version: str
    lane: str
    tenant: str


class Subjects(msgspec.Struct, frozen=True):
    root: str

    def __post_init__(self) -> None:
        if not _ROOT.fullmatch(self.root):
            raise ValueError(f"root {self.root[:80]!r} must match [a-z][a-z0-9-]{{0,31}}")

    # Streams and consumers

    @property
    def jobs_stream(self) -> str:
        return f"{self.root.upper()}_JOBS"

    @property
    def replies_stream(self) -> str:
        return f"{self.root.upper()}_REPLIES"

    @property
    def dead_stream(self) -> str:
        return f"{self.root.upper()}_DEAD"

    def consumer(self, model: str, version: str, lane: str) -> str:
        return _JOIN.join((token(model), token(version), token(lane)))

    # Subjects of streams

    @property
    def all_jobs(self) -> str:
        return f"{self.root}.job.*.*.*.*"

    def job(self, model: str, version: str, lane: str, tenant: str) -> str:
        return f"{self.root}.job.{token(model)}.{token(version)}.{token(lane)}.{token(tenant)}"

    def jobs_of(self, model: str, version: str, lane: str) -> str:
        return f"{self.root}.job.{token(model)}.{token(version)}.{token(lane)}.*"

    def jobs_for(self, tenant: str) -> str:
        return f"{self.root}.job.*.*.*.{token(tenant)}"

    def parse_job(self, subject: str) -> JobSubject:
        """Raises ValueError if `subject` is not a job subject of this root."""
        parts = subject.split(".")
        if len(parts) != 6 or parts[:2] != [self.root, "job"]:
            raise ValueError(f"not a job subject: {subject[:200]!r}")
        return JobSubject(*(token(part) for part in parts[2:]))

    def job_key(self, tenant: str, job: str) -> "JobKey":
        token(tenant), token(job)
        return JobKey(self.root, tenant, job)

    @property
    def all_births(self) -> str:
        return f"{self.root}.reply.*.*.job"

    @property
    def all_entries(self) -> str:
        return f"{self.root}.reply.*.*.c"

    @property
    def all_leases(self) -> str:
        return f"{self.root}.reply.*.*.lease"

    def births_of(self, tenant: str) -> str:
        return f"{self.root}.reply.{token(tenant)}.*.job"

    @property
    def republish(self) -> tuple[str, str]:
        """(source, destination) of REPLIES' republish."""
        return self.all_entries, f"{self.root}.live.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"

    @property
    def dead(self) -> str:
        return f"{self.root}.dead.>"

    def dead_job(self, tenant: str, job: str) -> str:
        return f"{self.root}.dead.{token(tenant)}.{token(job)}"

    def dead_of(self, tenant: str | None, job: str) -> str:
        """The dead letters of a job, of any tenant if none is named."""
        return f"{self.root}.dead.{token(tenant) if tenant is not None else '*'}.{token(job)}"

    @property
    def usage_stream(self) -> str:
        return f"{self.root.upper()}_USAGE"

    @property
    def all_usage(self) -> str:
        return f"{self.root}.usage.*.*"

    def usage(self, day: str, account: str) -> str:
        return f"{self.root}.usage.{token(day)}.{token(account)}"

    # Webhooks

    @property
    def hooks_stream(self) -> str:
        return f"{self.root.upper()}_HOOKS"

    @property
    def all_hooks(self) -> str:
        return f"{self.root}.hook.*.*"

    def hook(self, tenant: str, job: str) -> str:
        return f"{self.root}.hook.{token(tenant)}.{token(job)}"

    # API keys

    @property
    def keys_bucket(self) -> str:
        return f"{self.root.upper()}_KEYS"

    @property
    def keys_stream(self) -> str:
        return f"KV_{self.keys_bucket}"

    @property
    def all_keys(self) -> str:
        return f"$KV.{self.keys_bucket}.*"

    def key(self, key_id: str) -> str:
        return f"$KV.{self.keys_bucket}.{token(key_id)}"

    @property
    def keys_bell(self) -> str:
        return f"{self.root}.key.*"

    @property
    def keys_republish(self) -> tuple[str, str]:
        """(source, destination) of the bucket's republish."""
        return self.all_keys, f"{self.root}.key.{{{{wildcard(1)}}}}"

    # Core subjects

    @property
    def submit(self) -> str:
        return f"{self.root}.submit"

    def submit_as(self, tenant: str) -> str:
        return f"{self.root}.submit.{token(tenant)}"

    @property
    def all_submits_as(self) -> str:
        return f"{self.root}.submit.*"

    def cancel(self, tenant: str, job: str) -> str:
        return f"{self.root}.cancel.{token(tenant)}.{token(job)}"

    @property
    def all_cancels(self) -> str:
        return f"{self.root}.cancel.*.*"

    @property
    def all_gateway_usage(self) -> str:
        return f"{self.root}.gateway.*.usage"

    def gateway_usage(self, gateway: str) -> str:
        return f"{self.root}.gateway.{token(gateway)}.usage"

    @property
    def all_heartbeats(self) -> str:
        return f"{self.root}.worker.*.hb"

    def heartbeat(self, worker: str) -> str:
        return f"{self.root}.worker.{token(worker)}.hb"

    @property
    def all_gone(self) -> str:
        return f"{self.root}.worker.*.gone"

    def gone(self, worker: str) -> str:
        return f"{self.root}.worker.{token(worker)}.gone"

    def ping(self, worker: str) -> str:
        return f"{self.root}.worker.{token(worker)}.ping"

    def stop(self, worker: str) -> str:
        return f"{self.root}.worker.{token(worker)}.stop"

    def drain(self, worker: str) -> str:
        return f"{self.root}.worker.{token(worker)}.drain"


class JobKey(msgspec.Struct, frozen=True):
    """The subjects of one job. A job is named by (tenant, job) everywhere; an id alone is not a name."""

    root: str
    tenant: str
    job: str

    @property
    def birth(self) -> str:
        return f"{self.root}.reply.{self.tenant}.{self.job}.job"

    @property
    def entries(self) -> str:
        return f"{self.root}.reply.{self.tenant}.{self.job}.c"

    @property
    def lease(self) -> str:
        return f"{self.root}.reply.{self.tenant}.{self.job}.lease"

    @property
    def everything(self) -> str:
        """A filter for all that REPLIES holds of the job."""
        return f"{self.root}.reply.{self.tenant}.{self.job}.*"

    @property
    def live(self) -> str:
        return f"{self.root}.live.{self.tenant}.{self.job}"

    @property
    def listen(self) -> str:
        return f"{self.root}.listen.{self.tenant}.{self.job}"


def parse_birth(subject: str) -> tuple[str, str]:
    """(tenant, job) of a `.job` subject."""
    parts = subject.split(".")
    return parts[-3], parts[-2]


def parse_job_of(subject: str) -> tuple[str, str]:
    """(tenant, job) of a cancel's, a dead letter's or a hook's subject."""
    parts = subject.split(".")
    return parts[-2], parts[-1]


def last_token(subject: str) -> str:
    return subject.rpartition(".")[2]


def worker_of(subject: str) -> str:
    """The id in `<root>.worker.<id>.…`."""
    return subject.split(".")[-2]


def queue_of(consumer: str) -> list[str]:
    """[model, version, lane] of a consumer of JOBS."""
    return consumer.split(_JOIN)
