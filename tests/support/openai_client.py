"""OpenAI's own client, for tests."""

import time
from typing import Any

from openai import OpenAI


def opened(url: str, **options: Any) -> OpenAI:
    """A client of the gateway at `url`, by default without retries. Close it."""
    return OpenAI(**{"base_url": f"{url}/v1", "api_key": "x", "max_retries": 0, "timeout": 20.0, **options})


def plays(**params: Any) -> dict[str, Any]:
    """Arguments of `client.audio.speech.create` for the model `tone`."""
    return {"model": "tone", "voice": "alloy", "input": "tone", "extra_body": {"params": params}}


def ended(client: OpenAI, job: str, within_s: float = 20.0) -> str:
    """The state that the job ended in."""
    deadline = time.monotonic() + within_s
    while (state := str(client.get(f"/jobs/{job}", cast_to=dict[str, Any])["state"])) in {"queued", "running"}:
        assert time.monotonic() < deadline, f"{job} is {state} after {within_s} s"
        time.sleep(0.01)
    return state
