"""Ten thousand requests that the document allows, or forbids, at every route: what is answered is what it says."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.programs import Fleet
from tests.support.web import knows_every_model, ready

#: Another one finds other cases: CONTRACT_SEED=7 make test-all ARGS="-k contract".
SEED = int(os.environ.get("CONTRACT_SEED", "20261121"))
CASES = 10_000
#: Of each operation, beside those that the document's limits ask for.
EXAMPLES = 140
SUPPORT = Path(__file__).parents[1] / "support"
#: One process for each: several threads in one trip over CPython 3.11's parser.
PARTS = (("native", "openai"), ("acestep", "elevenlabs", "plain", "vllm"))
#: Ours ask what these do, and know what no document can tell: tests/support/contract.py has the reasons.
REPLACED = "positive_data_acceptance,negative_data_rejection"


async def schemathesis(url: str, tags: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """Its exit code and what it said, of the operations with these tags."""
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(SUPPORT / "contract.toml")),
        *("run", f"{url}/openapi.json", "--checks", "all", "--exclude-checks", REPLACED, "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing", "--seed", str(SEED), "-n", str(EXAMPLES), "-w", "1"),
        *("--no-color", "--request-timeout", "30", *(word for tag in tags for word in ("--include-tag", tag))),
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(SUPPORT / "contract.py")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, told.decode()


@pytest.mark.slow
async def test_every_answer_is_as_the_document_says_in_ten_thousand_cases(
    fleet: Fleet, http: ClientSession, tmp_path: Path
) -> None:
    gateway, url = fleet.gateway()
    fleet.worker("w1", "tone,speech", 16)
    await ready(http, url)
    await knows_every_model(http, url)
    early = len(gateway.events("http.refused"))
    async with http.get(f"{url}/openapi.json") as answer:
        document = await answer.json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == {tag for tags in PARTS for tag in tags}

    parts = await asyncio.gather(
        *(schemathesis(url, tags, tmp_path / str(n)) for n, tags in enumerate(PARTS)),
    )

    told = "\n".join(text for _, text in parts)
    assert [code for code, _ in parts] == [0, 0], told
    cases = sum(int(found) for found in re.findall(r"(\d+) generated", told))
    tested = sum(int(found) for found in re.findall(r"Tested: (\d+)", told))
    print(f"\n{cases} cases at {tested} operations, seed {SEED}: the answers are those of the document")
    assert (cases >= CASES, tested) == (True, len(operations)), told
    assert gateway.process.poll() is None
    assert gateway.events("http.failed") == []
    assert [event for event in gateway.events("http.refused")[early:] if event["status"] >= 500] == []
