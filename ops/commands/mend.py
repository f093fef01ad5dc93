"""`antiphon mend`: end the jobs that a damaged store has lost, and list them."""

from bus.jobs.lost_jobs import end_lost_jobs
from bus.settings import BusSettings
from ops.commands.bus_session import bus_session
from ops.commands.http import run_async
from ops.commands.show import print_result


def mend(settings: BusSettings, *, as_json: bool) -> None:
    """Print every job that was lost, one a line; it has ended as `failed`. Raises OpsError."""
    lost = run_async(_lost(settings))

    def show() -> None:
        for job in lost:
            print(f"{job['tenant']}/{job['id']} is lost; it has ended as failed")
        print(f"{len(lost)} jobs are lost")

    print_result({"lost": lost}, show, as_json=as_json)


async def _lost(settings: BusSettings) -> list[dict[str, str]]:
    async with bus_session(settings) as bus:
        return [{"tenant": key.tenant, "id": key.job} for key in await end_lost_jobs(bus)]
