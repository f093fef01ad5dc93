"""`antiphon drain`: ask one worker, by its name, to stop as on SIGTERM."""

import msgspec

from bus import wire
from bus.errors import NoResponders
from bus.fleet.messages import Draining
from bus.settings import BusSettings
from bus.subjects import is_token
from ops.commands.http import wait_for
from ops.commands.show import print_told
from ops.commands.visit import visit
from ops.errors import OpsError


def drain(settings: BusSettings, worker: str, *, as_json: bool) -> None:
    """Return once the worker has said that it drains. Raises OpsError."""
    told = wait_for(_ask(settings, worker))
    print_told(told, lambda: print(f"{worker} drains: {told['held']} jobs get {told['drain_s']:g} s"), as_json=as_json)


async def _ask(settings: BusSettings, worker: str) -> dict[str, object]:
    if not is_token(worker):
        raise OpsError(f"{worker!r} can be no worker's id")
    async with visit(settings) as bus:
        try:
            answer = await bus.connection.request(bus.subjects.drain(worker))
        except NoResponders as error:
            raise OpsError(f"no live worker is called {worker!r}; `antiphon fleet` lists them") from error
        told: dict[str, object] = msgspec.to_builtins(wire.decode(Draining, answer.data))
        return {"worker": worker, **told}
