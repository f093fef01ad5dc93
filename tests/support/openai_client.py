"""OpenAI's own client, for tests that ask as its users do."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
from openai import OpenAI

from bus.settings import BusSettings
from tests.support.nats import fresh_root
from tests.support.programs import Program, fleet_of


class Stack(NamedTuple):
    worker: Program
    #: Of a gateway that is ready.
    url: str
    settings: BusSettings


@contextmanager
def stack_of(nats_url: str) -> Iterator[Stack]:
    """One worker, one gateway."""
    sizes = {"jobs_max_bytes": 64 << 20, "replies_max_bytes": 256 << 20}
    settings = BusSettings(nats=nats_url, root=fresh_root(), **sizes)
    with fleet_of(settings) as fleet:
        _, url = fleet.gateway()
        worker = fleet.worker("w1", "tone,speech", 2, "--max-fails", "0")
        wait_ready(url)
        yield Stack(worker, url, settings)


def opened(url: str, **options: Any) -> OpenAI:
    """A client of the gateway at `url` that asks once, unless told otherwise. Close it."""
    return OpenAI(**{"base_url": f"{url}/v1", "api_key": "x", "max_retries": 0, "timeout": 20.0, **options})


def plays(**params: Any) -> dict[str, Any]:
    """Arguments of `client.audio.speech.create` that ask for `tone`."""
    return {"model": "tone", "voice": "alloy", "input": "tone", "extra_body": {"params": params}}


def wait_ready(url: str, within_s: float = 20.0) -> None:
    """Until a request would succeed, and a model that nobody has is known not to be there."""
    deadline = time.monotonic() + within_s
    with httpx.Client(base_url=url) as http:
        while http.get("/readyz").status_code != 200 or http.get("/v1/models/nobody").status_code != 404:
            assert time.monotonic() < deadline, http.get("/readyz").text
            time.sleep(0.02)


def ended(client: OpenAI, job: str, within_s: float = 10.0) -> str:
    """How the job ended, once it has."""
    deadline = time.monotonic() + within_s
    while (state := str(client.get(f"/jobs/{job}", cast_to=dict[str, Any])["state"])) in {"queued", "running"}:
        assert time.monotonic() < deadline, f"{job} is {state} after {within_s} s"
        time.sleep(0.01)
    return state
