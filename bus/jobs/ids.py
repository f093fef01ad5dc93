"""Forms of job ids that no caller may choose, because another process assigns or derives them. Pure.

q7                 assigned by the bus to the job of message 7 in JOBS that names no id
c<40 hex>[-<n>]    derived by a gateway from everything that the audio depends on; `-<n>` is a later generation
"""

import re
from typing import Final

import msgspec

from bus import wire
from bus.jobs.birth import digest

_ASSIGNED: Final = re.compile(r"q[0-9]+")
_DERIVED: Final = re.compile(r"c[0-9a-f]{40}")
_ANY_GENERATION: Final = re.compile(r"(?P<first>c[0-9a-f]{40})(-[0-9]+)?")


def is_assigned(job_id: str) -> bool:
    """Whether `job_id` has the form of the ids that the bus assigns."""
    return _ASSIGNED.fullmatch(job_id) is not None


def is_derived(job_id: str) -> bool:
    """Whether `job_id` has the form of the first generation of a derived id."""
    return _DERIVED.fullmatch(job_id) is not None


def is_reserved(job_id: str) -> bool:
    """Whether `job_id` has the form of a derived id, of any generation."""
    return _ANY_GENERATION.fullmatch(job_id) is not None


def derived_from(job: wire.Job) -> str:
    """The derived id of `job`, which is complete but for its id. It does not depend on the tenant."""
    return "c" + digest(msgspec.structs.replace(job, tenant=""))[:40]


def is_forged(job: wire.Job) -> bool:
    """Whether the id of `job` has the form of a derived id without being derived from this job."""
    form = _ANY_GENERATION.fullmatch(job.id)
    return form is not None and form["first"] != derived_from(job)
