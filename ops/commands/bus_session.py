"""A command's connection to a running deployment's bus, with one clear line for every way in which it can fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.errors import ApiError, BusError, NotPermitted, Unreachable
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings, redacted
from bus.telemetry.logging import configure
from bus.transport.jetstream import is_missing_stream
from ops.errors import OpsError

#: A command waits this long for NATS.
_PATIENCE_S = 5.0


@asynccontextmanager
async def bus_session(settings: BusSettings) -> AsyncIterator[Bus]:
    """Connect for the length of the block; streams are neither made nor changed.

    Raises OpsError for every BusError, also for one that is raised in the block.
    """
    configure("antiphon", level="error", form="console")
    try:
        async with open_bus(settings, "operator", _PATIENCE_S, declare=False) as bus:
            yield bus
    except ApiError as error:
        if is_missing_stream(error):
            raise OpsError(
                f"no stream of root {settings.root!r} at {redacted(settings.nats)}: start a gateway first, which makes "
                "them, or name the --root of the stack"
            ) from error
        raise OpsError(str(error)) from error
    except NotPermitted as error:
        raise OpsError(
            f"{error}; give --nats a user with that permission, which in ops/deploy/nats is `operator`"
        ) from error
    except Unreachable as error:
        raise OpsError(f"{error}; is {redacted(settings.nats)} the --nats of the stack?") from error
    except BusError as error:
        raise OpsError(str(error)) from error
