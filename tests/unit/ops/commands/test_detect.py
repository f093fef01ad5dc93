"""`antiphon detect`: the tag in files of every format that has one, as the gateway's encoders write it."""

import asyncio
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from bus import wire
from gateway.codecs import FORMATS, Format
from gpuworker import watermark
from ops.commands.detect import detect
from ops.errors import OpsError
from tests.support.codecs import encoded, voice_like
from tests.support.commands import antiphon

JOB = wire.Job(input="x", id="my_job-1", model="kokoro", version="v1.0")


def file_of(codec: str, folder: Path, job: wire.Job = JOB) -> Path:
    parts = asyncio.run(encoded(Format(codec), 24_000, voice_like(0.2, 24_000), 4_800, None, Format(codec).tag(job)))
    path = folder / f"a.{codec}"
    path.write_bytes(b"".join(parts))
    return path


def found(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[bool, dict[str, Any]]:
    is_marked = detect(path, as_json=True)
    return is_marked, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("codec", [name for name, codec in FORMATS.items() if codec.has_tag])
def test_a_tag_is_found_and_without_one_none(codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tag = {"model": "kokoro", "version": "v1.0", "job": "my_job-1"}
    assert found(file_of(codec, tmp_path), capsys) == (True, {"tag": tag, "watermark": None})
    unmarked = wire.Job(input="x", id="my_job-1", model="kokoro", version="v1.0", marking="none")
    assert found(file_of(codec, tmp_path, unmarked), capsys) == (False, {"tag": None, "watermark": None})


def test_a_watermark_is_a_mark_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of("wav", tmp_path, wire.Job(input="x", marking="none"))
    point = EntryPoint("noise", "tests.support.watermark:Noise", watermark.GROUP)
    monkeypatch.setattr(watermark, "entry_points", lambda *, group: [point])
    assert found(path, capsys) == (True, {"tag": None, "watermark": 0.75})
    monkeypatch.setattr("tests.support.watermark.Noise.detect", lambda *_, rate_hz: 0.5)
    assert found(path, capsys) == (False, {"tag": None, "watermark": 0.5})
    monkeypatch.setattr("tests.support.watermark.Noise.detect", lambda *_, rate_hz: 1 / 0)
    with pytest.raises(OpsError, match="the watermark failed: ZeroDivisionError"):
        detect(path, as_json=True)


def test_its_exit_code_says_whether_there_is_a_mark(tmp_path: Path) -> None:
    marked = antiphon("detect", str(file_of("mp3", tmp_path)))
    assert marked.returncode == 0
    assert "job      my_job-1" in marked.stdout
    bare = antiphon("detect", str(file_of("pcm", tmp_path)))
    assert bare.returncode == 1
    assert "that proves nothing" in bare.stdout
    missing = antiphon("detect", str(tmp_path / "none.wav"))
    assert missing.returncode == 1
    assert "no such file" in missing.stderr
