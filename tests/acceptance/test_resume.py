"""The programs of docs/resume.md, as they stand: a gateway is killed in mid-stream, and every frame arrives once."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doors import STEADY
from tests.support.fleets import small_bus
from tests.support.pages import ROOT, blocks
from tests.support.programs import fleet_of
from tests.support.tone import tone_pcm

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "resume.md"
SECONDS = 4
TONE = json.dumps({"model": "tone", "input": "x", "params": {"seconds": SECONDS, **STEADY}})


def as_tone(program: str) -> str:
    """The program with a body whose audio is known and takes a while."""
    changed = re.sub(r"^((?:const )?BODY =) .*$", rf"\1 {TONE}", program, flags=re.MULTILINE)
    assert changed != program
    return changed


def programs(folder: Path) -> dict[str, list[str]]:
    python, javascript = folder / "resume.py", folder / "resume.mjs"
    python.write_text(as_tone(blocks(PAGE, "python")[0]))
    javascript.write_text(as_tone("".join(blocks(PAGE, "javascript"))))
    return {"python": [sys.executable, str(python)], "javascript": ["node", str(javascript)]}


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_client_goes_on_at_another_gateway(nats_url: str, tmp_path: Path, language: str) -> None:
    with fleet_of(small_bus(nats_url)) as fleet:
        worker = fleet.worker("w1", "tone", 2)
        (first, url), (second, other) = fleet.gateway(), fleet.gateway()
        for gateway in (first, second):  # one that has seen no worker yet refuses, and the client goes to the next
            gateway.wait_for("submit.ready")
        command = [*programs(tmp_path)[language], url, other]
        # Without a buffer here, which `communicate` does not read.
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        assert client.stdout is not None
        try:
            worker.wait_for("job.started", within_s=30)
            begun = b""
            while len(begun) < 24_000 and (data := client.stdout.read(24_000 - len(begun))):
                begun += data
            first.kill()
            rest, errors = client.communicate(timeout=60)
        finally:
            client.kill()
            client.wait()
        assert client.returncode == 0, errors.decode()
        assert begun + rest == tone_pcm(SECONDS)
        assert len(worker.events("job.started")) == 1, "it is one job, whoever asked for it"
