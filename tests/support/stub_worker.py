"""A worker process without engines that is present and, on request, holds `tone` jobs: to be killed and frozen.

    python -m tests.support.stub_worker SETTINGS_JSON ID BOOT NUM_JOBS

Prints the sequence of each job's lease and `ready`.
"""

import asyncio
import os
import sys

import msgspec

from bus.fleet.messages import Heartbeat, Held, ModelCard
from bus.fleet.presence import Presence
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.bus import claims, pull

CARD = ModelCard(
    name="tone",
    version="v1",
    kind="speech",
    rate_hz=24_000,
    channels=1,
    resume="random_access",
    determinism="exact",
    param_schema={},
    max_input_chars=100,
)


def beat(worker: str, boot: str, held: list[Held]) -> Heartbeat:
    return Heartbeat(
        id=worker,
        boot=boot,
        pid=os.getpid(),
        host="test",
        state="ready",
        models=["tone"],
        cards="1",
        slots=9,
        held=held,
        started={"tone=v1=interactive": 3},
    )


async def main(settings: BusSettings, worker: str, boot: str, num_jobs: int) -> None:
    async with open_bus(settings, "worker") as bus:
        held: list[Held] = []
        by = claims(bus, worker, boot)
        for _ in range(num_jobs):
            delivery = await pull(bus)
            claim = await by.claim(delivery, by.open(delivery))
            assert claim is not None
            held.append(Held(claim.key.tenant, claim.key.job))
            print(claim.lease_seq, flush=True)
        presence = Presence(bus, worker, boot, lambda: beat(worker, boot, held), lambda _: None)
        presence.cards = [CARD]
        await presence.ensure_unique_id()
        asyncio.get_running_loop().call_soon(lambda: print("ready", flush=True))
        await presence.run()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=BusSettings), sys.argv[2], sys.argv[3], int(sys.argv[4])))
