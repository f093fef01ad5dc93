"""`antiphon drain`: make one worker, by its id, stop as on SIGTERM."""

import msgspec

from bus import wire
from bus.errors import NoResponders
from bus.fleet.messages import Draining
from bus.settings import BusSettings
from bus.subjects import is_token
from ops.commands.bus_session import bus_session
from ops.commands.http import run_async
from ops.commands.show import print_result
from ops.errors import OpsError


def drain(settings: BusSettings, worker: str, *, as_json: bool) -> None:
    """Return once the worker has confirmed that it drains. Raises OpsError if no live worker has this id."""
    result = run_async(_request(settings, worker))
    print_result(
        result,
        lambda: print(f"{worker} drains: {result['held']} jobs get {result['drain_s']:g} s"),
        as_json=as_json,
    )


async def _request(settings: BusSettings, worker: str) -> dict[str, object]:
    if not is_token(worker):
        raise OpsError(f"{worker!r} cannot be the id of a worker")
    async with bus_session(settings) as bus:
        try:
            reply = await bus.connection.request(bus.subjects.drain(worker))
        except NoResponders as error:
            raise OpsError(f"no live worker is called {worker!r}; `antiphon fleet` lists them") from error
        draining: dict[str, object] = msgspec.to_builtins(wire.decode(Draining, reply.data))
        return {"worker": worker, **draining}
