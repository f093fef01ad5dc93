"""The folder of fetched files: what processes leave behind that were killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpuworker.worker import blob_cache
from gpuworker.worker.blob_cache import OwnFolder

HOLD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from gpuworker.worker.blob_cache import OwnFolder
folder = OwnFolder()
print(folder.path, flush=True)
sys.stdin.read()
"""


def age(path: Path) -> None:
    then = time.time() - 3600
    os.utime(path, (then, then))


@pytest.fixture(autouse=True)
def in_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one_and_no_other(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        (left / "file").write_text("bytes")
        age(left)
        live = OwnFolder()
        assert left.exists(), "its process runs"
        process.kill()
        process.wait(20)
    young = tmp_path / "antiphon-blobs-young"
    young.mkdir()
    age(live.path)
    mine = OwnFolder()
    assert not left.exists()
    assert young.exists()
    assert live.path.exists()
    for folder in (live, mine):
        folder.remove()
        assert not folder.path.exists()


def test_unfinished_files_are_removed_once_they_are_old(tmp_path: Path) -> None:
    old, new = tmp_path / "part-old", tmp_path / "part-new"
    held = tmp_path / "held-old"
    held.mkdir()
    for path in (old, new, held / "file"):
        path.write_text("bytes")
    then = time.time() - 25 * 3600
    for path in (old, held):
        os.utime(path, (then, then))
    blob_cache.remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-new"]
