"""Errors of callers that have reached a limit."""

from typing import Final

from bus.errors import JobError, StorageFull, TooMany
from bus.fair_pool import Refusal
from bus.telemetry.logging import logger
from gateway.limits.rates import Rate, Standing

log = logger(__name__)

REQUESTS: Final = "requests_per_s"
JOBS: Final = "concurrent_jobs"
AUDIO: Final = "audio_s_per_day"
#: Retry-After of a refused job: when one will end is unknown.
_JOBS_RETRY_AFTER_S: Final = 1.0
_STORED_RETRY_AFTER_S: Final = 2.0


def _shown(account: str) -> str:
    """`key 8470be00639d`."""
    return " ".join(account.split("-", 1))


def too_many_requests(account: str, rate: Rate, standing: Standing) -> TooMany:
    """`account` has used up `rate`."""
    per_s = f"{rate.per_s:g} requests per second, {rate.burst} at once"
    text = f"{_shown(account)} may send {per_s}; try again in {standing.retry_after_s:.2f} s"
    error = _too_many(text, REQUESTS, account, rate.per_s, standing.retry_after_s)
    error.burst = rate.burst
    error.full_after_s = standing.full_after_s
    return error


def too_many_jobs(account: str, num_jobs: int, most: int) -> TooMany:
    """`account` has `num_jobs` of at most `most` concurrent jobs."""
    text = f"{_shown(account)}: {num_jobs} wait or run, the limit of jobs at a time is {most}"
    return _too_many(text, JOBS, account, most, _JOBS_RETRY_AFTER_S)


def too_much_audio(account: str, used_s: float, most_s: float, retry_after_s: float) -> TooMany:
    """`account` has used `used_s` of `most_s` seconds of audio today."""
    text = f"{_shown(account)} may have {most_s:g} s of audio a day, and {used_s:.1f} s were made since 00:00 UTC"
    return _too_many(text, AUDIO, account, most_s, retry_after_s)


def too_much_stored(tenant: str, refusal: Refusal, limit: str, stream: str, capacity: int) -> TooMany:
    """The live jobs of `tenant` have its share of what `stream` has for all: `capacity` bytes. `limit`: its name."""
    text = (
        f"{limit}: the jobs of tenant {tenant} that wait or run have {refusal.held:,.0f} bytes of {stream}; this one "
        f"needs {refusal.asked:,.0f} more, and the tenant's share is {refusal.allowed:,.0f} of {capacity:,} at present"
    )
    error = _too_many(text, limit, f"tenant-{tenant}", round(refusal.allowed), _STORED_RETRY_AFTER_S)
    error.left = max(0.0, error.allowed - refusal.held)
    return error


def too_many_bytes(tenant: str, refusal: Refusal, limit: str, capacity: int) -> TooMany:
    """The blobs of `tenant` have its share of `capacity` bytes, which all tenants have together."""
    text = (
        f"{limit}: the blobs of tenant {tenant} have {refusal.held:,.0f} bytes, and this one needs "
        f"{refusal.asked:,.0f} more; the tenant's share is {refusal.allowed:,.0f} of {capacity:,} at present"
    )
    error = _too_many(text, limit, f"tenant-{tenant}", round(refusal.allowed), _STORED_RETRY_AFTER_S)
    error.left = max(0.0, error.allowed - refusal.held)
    return error


def no_room(refusal: Refusal, stream: str, total: int, capacity: int) -> StorageFull:
    """The live jobs of all tenants have `total` of `capacity` bytes of `stream`."""
    return StorageFull(
        f"the jobs of all tenants that wait or run have {total:,} of {capacity:,} bytes of {stream}; this one needs "
        f"{refusal.asked:,.0f} more"
    )


def _too_many(text: str, limit: str, account: str, allowed: float, retry_after_s: float) -> TooMany:
    error = TooMany(text)
    error.limit = limit
    error.scope = account.partition("-")[0]
    error.allowed = float(allowed)
    error.left = 0.0
    error.retry_after_s = retry_after_s
    return error


def log_reached(tenant: str, account: str, error: JobError) -> None:
    """Log a refusal that a request of `tenant` gets, if it is one for a limit of the account."""
    if isinstance(error, TooMany):
        log.info(
            "limit.reached",
            tenant=tenant,
            limit=error.limit,
            account=account,
            allowed=error.allowed,
            retry_after_s=round(error.retry_after_s, 3),
        )
