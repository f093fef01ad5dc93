"""Commands of `antiphon` that end by themselves, as an operator runs them and a script reads them."""

import asyncio
import json
import os
import subprocess
import tempfile
from typing import Any

from bus.jobs.client import Bus
from tests.support.forked import Process


def antiphon(*args: str, within_s: float = 30.0, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run to its end; no setting of this process's own environment counts. Raises subprocess.TimeoutExpired."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        process = Process(args, inherited | environ, errors.name, output.name)
        try:
            code = process.wait(within_s)
        finally:
            process.kill()
            process.wait(within_s)
            process.close()
        return subprocess.CompletedProcess(["antiphon", *args], code, output.read(), errors.read())


async def on_bus(bus: Bus, *args: str) -> "subprocess.CompletedProcess[str]":
    """A command of an operator of `bus`."""
    flags = ("--nats", bus.settings.nats, "--root", bus.settings.root)
    return await asyncio.to_thread(antiphon, *args, *flags)


async def json_of(bus: Bus, *args: str) -> Any:
    """The JSON that a command prints; it must succeed."""
    done = await on_bus(bus, *args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
