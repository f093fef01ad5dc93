"""Every subject, stream and consumer name in the system. No other module spells one.

    <root>.job.<model>.<version>.<lane>.<tenant>   JOBS, a work queue
    <root>.reply.<tenant>.<job>.job                REPLIES: the birth of a job's log
    <root>.reply.<tenant>.<job>.c                  REPLIES: the entries of the log
    <root>.reply.<tenant>.<job>.lease              REPLIES: the right to append to the log
    <root>.live.<tenant>.<job>                     republish of `.c`: stored entries only
    <root>.listen.<tenant>.<job>                   core: each subscriber is a listener of the job
    <root>.submit, <root>.submit.<tenant>          core service of the gateways
    <root>.cancel.<tenant>.<job>                   core service of the gateways
    <root>.worker.<id>.{hb,ping,stop,drain,gone}   core
    <root>.gateway.<id>.usage                      core: usage counted by one gateway
    <root>.usage.<day>.<account>                   USAGE: milliseconds of audio, a counter of the server
    <root>.hook.<tenant>.<job>                     HOOKS: pending webhook events of a job
    <root>.dead.<tenant>.<job>                     DEAD: messages that were given up
    <root>.link.<tenant>                           LINKS: links of a tenant that were revoked
    $KV.<ROOT>_KEYS.<id>                           KV bucket: API keys, hashed
    $KV.<ROOT>_KEYS.links                          there too: the secrets that links are signed with
    <root>.key.<id>                                republish of those, without the record

`root` separates deployments that share a server and gives each test a namespace of its own. It matches
`[a-z][a-z0-9-]{0,31}`, so that the stream names made of it (`<ROOT>_JOBS`) are one-to-one.
"""

import re
from functools import cached_property
from typing import Final

import msgspec

#: Highest priority first.
LANES: Final = ("interactive", "standard", "batch")

#: In the bucket of the API keys, the secrets that links are signed with, and the markings of tenants. An id of a key is
#: hexadecimal.
LINKS_ENTRY: Final = "links"
MARKINGS_ENTRY: Final = "markings"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROOT = re.compile(r"[a-z][a-z0-9-]{0,31}")
#: Consumer names join tokens with a character that no token holds: with `_` two of them collided.
_JOIN = "="


def token(text: str) -> str:
    """Return `text` if it can be one subject token.

    Dots, wildcards and spaces would change which subscribers match, so a caller's name must never reach a subject
    unchecked. It is never rewritten, or two names could become one.

    Raises:
        ValueError: it is not 1 to 64 of `A-Z a-z 0-9 _ -`.
    """
    if not is_token(text):
        raise ValueError(f"{text[:80]!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -")
    return text


def is_token(text: str) -> bool:
    """Whether `text` can be one subject token."""
    return _TOKEN.fullmatch(text) is not None


class JobSubject(msgspec.Struct, frozen=True):
    """The parts of a subject of JOBS."""

    model: str
    version: str
    lane: str
    tenant: str


class Subjects(msgspec.Struct, frozen=True, dict=True):
    """Names of one deployment. Methods that take a name from outside raise ValueError if it is not a token."""

    root: str

    def __post_init__(self) -> None:
        if not _ROOT.fullmatch(self.root):
            raise ValueError(f"root {self.root[:80]!r} must match [a-z][a-z0-9-]{{0,31}}")

    # Jobs

    @cached_property
    def jobs_stream(self) -> str:
        """Stream of queued jobs."""
        return f"{self.root.upper()}_JOBS"

    @cached_property
    def all_jobs(self) -> str:
        """Filter for all queued jobs."""
        return f"{self.root}.job.*.*.*.*"

    def job(self, model: str, version: str, lane: str, tenant: str) -> str:
        """Subject of a queued job."""
        return f"{self.root}.job.{token(model)}.{token(version)}.{token(lane)}.{token(tenant)}"

    def jobs_of(self, model: str, version: str, lane: str) -> str:
        """Filter for the queued jobs of one consumer."""
        return f"{self.root}.job.{token(model)}.{token(version)}.{token(lane)}.*"

    def jobs_for(self, tenant: str) -> str:
        """Filter for the queued jobs of one tenant."""
        return f"{self.root}.job.*.*.*.{token(tenant)}"

    def parse_job(self, subject: str) -> JobSubject:
        """Take apart a subject of JOBS. Raises ValueError if it is not one of this root."""
        parts = subject.split(".")
        if len(parts) != 6 or parts[:2] != [self.root, "job"]:
            raise ValueError(f"not a job subject: {subject[:200]!r}")
        return JobSubject(*(token(part) for part in parts[2:]))

    def consumer(self, model: str, version: str, lane: str) -> str:
        """Name of a consumer of JOBS; `queue_of` takes it apart."""
        return _JOIN.join((token(model), token(version), token(lane)))

    # Logs

    @cached_property
    def replies_stream(self) -> str:
        """Stream of the logs: births, entries, leases."""
        return f"{self.root.upper()}_REPLIES"

    def job_key(self, tenant: str, job: str) -> "JobKey":
        """Key of a job's log."""
        token(tenant), token(job)
        return JobKey(self.root, tenant, job)

    @cached_property
    def all_births(self) -> str:
        """Filter for the births of all jobs."""
        return f"{self.root}.reply.*.*.job"

    @cached_property
    def all_entries(self) -> str:
        """Filter for the entries of all jobs."""
        return f"{self.root}.reply.*.*.c"

    @cached_property
    def all_leases(self) -> str:
        """Filter for the leases of all jobs."""
        return f"{self.root}.reply.*.*.lease"

    def births_of(self, tenant: str) -> str:
        """Filter for the births of a tenant's jobs."""
        return f"{self.root}.reply.{token(tenant)}.*.job"

    @cached_property
    def republish(self) -> tuple[str, str]:
        """(source, destination) of the republish of entries."""
        return self.all_entries, f"{self.root}.live.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"

    # Dead letters

    @cached_property
    def dead_stream(self) -> str:
        """Stream of the dead letters."""
        return f"{self.root.upper()}_DEAD"

    @cached_property
    def dead(self) -> str:
        """Filter for all dead letters."""
        return f"{self.root}.dead.>"

    def dead_job(self, tenant: str, job: str) -> str:
        """Subject of a dead letter; `job` is the id of a job or of a webhook event."""
        return f"{self.root}.dead.{token(tenant)}.{token(job)}"

    def dead_of(self, tenant: str | None, job: str) -> str:
        """Filter for the dead letters of a job; None: of any tenant."""
        return f"{self.root}.dead.{token(tenant) if tenant is not None else '*'}.{token(job)}"

    # Audio used

    @cached_property
    def usage_stream(self) -> str:
        """Stream of the audio counters."""
        return f"{self.root.upper()}_USAGE"

    @cached_property
    def all_usage(self) -> str:
        """Filter for all audio counters."""
        return f"{self.root}.usage.*.*"

    def usage(self, day: str, account: str) -> str:
        """Subject of the counter of one account on one day."""
        return f"{self.root}.usage.{token(day)}.{token(account)}"

    # Webhooks

    @cached_property
    def hooks_stream(self) -> str:
        """Stream of pending webhook events."""
        return f"{self.root.upper()}_HOOKS"

    @cached_property
    def all_hooks(self) -> str:
        """Filter for the pending webhook events of all jobs."""
        return f"{self.root}.hook.*.*"

    def hook(self, tenant: str, job: str) -> str:
        """Subject of the pending webhook events of a job."""
        return f"{self.root}.hook.{token(tenant)}.{token(job)}"

    # API keys

    @cached_property
    def keys_bucket(self) -> str:
        """KV bucket of the API keys."""
        return f"{self.root.upper()}_KEYS"

    @cached_property
    def keys_stream(self) -> str:
        """Stream of that bucket."""
        return f"KV_{self.keys_bucket}"

    @cached_property
    def all_keys(self) -> str:
        """Filter for all entries of the bucket."""
        return f"{self.key_prefix}*"

    @cached_property
    def key_prefix(self) -> str:
        """Beginning of the subject of an API key, before its id."""
        return f"$KV.{self.keys_bucket}."

    def key(self, key_id: str) -> str:
        """Subject of one API key."""
        return f"{self.key_prefix}{token(key_id)}"

    @cached_property
    def link_keys(self) -> str:
        """Subject of the secrets that links are signed with."""
        return self.key(LINKS_ENTRY)

    @cached_property
    def markings(self) -> str:
        """Subject of the markings of tenants."""
        return self.key(MARKINGS_ENTRY)

    @cached_property
    def key_changes(self) -> str:
        """Filter for notifications that an API key was changed."""
        return f"{self.root}.key.*"

    @cached_property
    def keys_republish(self) -> tuple[str, str]:
        """(source, destination) of the republish of changed keys."""
        return self.all_keys, f"{self.root}.key.{{{{wildcard(1)}}}}"

    # Links

    @cached_property
    def links_stream(self) -> str:
        """Stream of the revoked links."""
        return f"{self.root.upper()}_LINKS"

    @cached_property
    def all_links(self) -> str:
        """Filter for the revoked links of all tenants."""
        return f"{self.root}.link.*"

    def link(self, tenant: str) -> str:
        """Subject of the revoked links of one tenant."""
        return f"{self.root}.link.{token(tenant)}"

    # Services of the gateways

    @cached_property
    def submit(self) -> str:
        """Subject of requests for a job, from callers that name no tenant."""
        return f"{self.root}.submit"

    def submit_as(self, tenant: str) -> str:
        """Subject of requests for a job of `tenant`."""
        return f"{self.root}.submit.{token(tenant)}"

    @cached_property
    def all_submits_as(self) -> str:
        """Filter for requests for jobs of any tenant."""
        return f"{self.root}.submit.*"

    def cancel(self, tenant: str, job: str) -> str:
        """Subject of requests to cancel a job."""
        return f"{self.root}.cancel.{token(tenant)}.{token(job)}"

    @cached_property
    def all_cancels(self) -> str:
        """Filter for requests to cancel any job."""
        return f"{self.root}.cancel.*.*"

    # Between gateways

    @cached_property
    def all_gateway_usage(self) -> str:
        """Filter for the usage that all gateways count."""
        return f"{self.root}.gateway.*.usage"

    def gateway_usage(self, gateway: str) -> str:
        """Subject of the usage that one gateway counts."""
        return f"{self.root}.gateway.{token(gateway)}.usage"

    # Workers

    @cached_property
    def all_heartbeats(self) -> str:
        """Filter for the heartbeats of all workers."""
        return f"{self.root}.worker.*.hb"

    def heartbeat(self, worker: str) -> str:
        """Subject of a worker's heartbeats."""
        return f"{self.root}.worker.{token(worker)}.hb"

    @cached_property
    def all_gone(self) -> str:
        """Filter for the last messages of all workers."""
        return f"{self.root}.worker.*.gone"

    def gone(self, worker: str) -> str:
        """Subject of a worker's last message, sent when it stops."""
        return f"{self.root}.worker.{token(worker)}.gone"

    def ping(self, worker: str) -> str:
        """Subject of requests that a worker answers at once."""
        return f"{self.root}.worker.{token(worker)}.ping"

    def stop(self, worker: str) -> str:
        """Subject of requests to look at the lease of a job that runs on a worker."""
        return f"{self.root}.worker.{token(worker)}.stop"

    def drain(self, worker: str) -> str:
        """Subject of requests that a worker drains."""
        return f"{self.root}.worker.{token(worker)}.drain"


class JobKey(msgspec.Struct, frozen=True, dict=True):
    """Names one job, by tenant and id, and its subjects. An id alone names no job: two tenants may use the same one."""

    root: str
    tenant: str
    job: str

    @cached_property
    def birth(self) -> str:
        """Subject of the first message of the log, which holds the job."""
        return f"{self.root}.reply.{self.tenant}.{self.job}.job"

    @cached_property
    def entries(self) -> str:
        """Subject of the entries of the log."""
        return f"{self.root}.reply.{self.tenant}.{self.job}.c"

    @cached_property
    def lease(self) -> str:
        """Subject of the lease. Its last sequence is the fence of every append."""
        return f"{self.root}.reply.{self.tenant}.{self.job}.lease"

    @cached_property
    def everything(self) -> str:
        """Filter for everything that REPLIES holds of the job."""
        return f"{self.root}.reply.{self.tenant}.{self.job}.*"

    @cached_property
    def live(self) -> str:
        """Subject on which the server republishes stored entries."""
        return f"{self.root}.live.{self.tenant}.{self.job}"

    @cached_property
    def listen(self) -> str:
        """Subject whose subscribers are the listeners of the job."""
        return f"{self.root}.listen.{self.tenant}.{self.job}"


def parse_birth(subject: str) -> tuple[str, str]:
    """(tenant, job) of the subject of a birth."""
    parts = subject.split(".")
    return parts[-3], parts[-2]


def parse_job_of(subject: str) -> tuple[str, str]:
    """(tenant, job) of the subject of a cancel request, a dead letter or pending webhook events."""
    parts = subject.split(".")
    return parts[-2], parts[-1]


def last_token(subject: str) -> str:
    """The part of `subject` after its last dot."""
    return subject.rpartition(".")[2]


def worker_of(subject: str) -> str:
    """The id in `<root>.worker.<id>.…`."""
    return subject.split(".")[-2]


def queue_of(consumer: str) -> list[str]:
    """[model, version, lane] of the name of a consumer of JOBS."""
    return consumer.split(_JOIN)
