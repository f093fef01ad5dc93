"""A field of a job is added by one line in `bus/options.py`, and by one in `gpuworker/engine.py` if engines read it.

The test does so in a copy of the source tree, starts the copy, and follows the field by each way in.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest

from tests.support import engine_package, up
from tests.support.nats_asking import WHOLE
from tests.support.nats_cli import nats_req

pytestmark = pytest.mark.slow

ON_THE_WIRE = '    mood: Annotated[str, schema("How it should sound.")] = ""'
FOR_ENGINES = '    mood: str = ""'
#: `tone`, with the field in the facts of its `done` entry.
ENGINE = """
from dataclasses import replace

from gpuworker.engine import Done
from gpuworker.engines.tone import Tone


class Singer(Tone):
    def capabilities(self):
        return replace(super().capabilities(), name="singer")

    def generate(self, jobs):
        for index, event in super().generate(jobs):
            yield index, Done({"mood": jobs[index].mood}) if isinstance(event, Done) else event
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source with the new field."""
    copy = tmp_path / "tree"
    for package in ("bus", "gateway", "gpuworker", "ops"):
        shutil.copytree(up.ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    add_line(copy / "bus/options.py", ON_THE_WIRE, before="    params: Annotated")
    add_line(copy / "gpuworker/engine.py", FOR_ENGINES, before="    params: Mapping")
    return copy


def add_line(file: Path, line: str, before: str) -> None:
    """Add `line` to a source file in front of the first line that begins with `before`."""
    source = file.read_text()
    assert before in source
    file.write_text(source.replace(before, f"{line}\n{before}", 1))


async def test_a_new_field_arrives_from_every_api_in_the_stored_job_and_at_the_engine(
    tree: Path, tmp_path: Path
) -> None:
    engine_package.install(tmp_path / "site", "singer", "Singer", ENGINE)
    song = {"model": "singer", "input": "x", "params": {"seconds": 0.1}}
    with up.running(tmp_path / "state", "--models", "singer", root=tree, path=(tmp_path / "site",)) as stack:
        client = await nats.connect(stack.ready_line["nats"])
        async with aiohttp.ClientSession(stack.http) as http:
            arrived = [
                await over_http(http, "/v1/jobs", song | {"mood": "glad"}),
                await over_http(http, "/v1/audio/speech", song | {"mood": "sad"}),
                await over_nats(client, song | {"mood": "calm"}, {}),
                await over_nats(client, song, {"Antiphon-Mood": "angry"}),
            ]
            for job_id, mood in zip(arrived, ("glad", "sad", "calm", "angry"), strict=True):
                stored = await client.request(
                    f"$JS.API.DIRECT.GET.ANTIPHON_REPLIES.antiphon.reply.public.{job_id}.job", b"", timeout=10
                )
                assert json.loads(stored.data)["job"]["mood"] == mood
                async with http.get(f"/v1/jobs/{job_id}/audio") as response:  # until it is done
                    await response.read()
                async with http.get(f"/v1/jobs/{job_id}") as response:
                    assert (await response.json())["engine"] == {"mood": mood}
        await client.close()


async def over_http(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> str:
    """The id of the job."""
    async with http.post(path, json=body) as response:
        assert response.ok, await response.text()
        await response.read()
        return response.headers["Antiphon-Job"]


async def over_nats(client: nats.NATS, body: dict[str, Any], headers: dict[str, str]) -> str:
    """The id of the job."""
    answer = await nats_req(client, "antiphon.submit", json.dumps(body), headers, **WHOLE)
    return str(answer.json(0)["job"])
