"""`antiphon doctor` looks at a running bus."""

from bus.jobs.client import Bus
from ops.commands import doctor
from tests.support.jobs import tone_job


async def test_the_doctor_compares_the_clocks_of_a_bus(bus: Bus) -> None:
    empty = await doctor.bus_checks(bus.settings)
    job = tone_job()
    await bus.js.publish(bus.subjects.job_key(job.tenant, job.id).entries, b"x")
    stored = await doctor.bus_checks(bus.settings)
    for checks in (empty, stored):
        assert [(check.what, check.ok) for check in checks] == [("nats", True), ("nats clock", True)], checks
