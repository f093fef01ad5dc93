"""The helper process: it keeps the library out of ours, dies alone, and ends with the process that started it."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gpuworker.conformance.driving import checked, next_block, run
from gpuworker.engine import EngineJob, MemoryPolicy
from gpuworker.engines.speech import espeak, flite
from gpuworker.engines.speech.engine import Speech
from gpuworker.engines.speech.speaker import Speaker, SpeakerFailed
from tests.engines.texts import STORY
from tests.support.waiting import eventually, gone

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
#: One part each: a quarter of an hour of audio (a second's work), and some hours, which no test waits for.
LONG = EngineJob(id="long", input=f"<speak>{STORY * 100}</speak>")
ENDLESS = EngineJob(id="endless", input=f"<speak>{STORY * 1200}</speak>")
SHORT = EngineJob(id="short", input="And on we go.")


def helper(speech: Speech) -> psutil.Process:
    return psutil.Process(speech.helper_pids[0])


def test_the_library_is_never_in_our_process(speech: Speech) -> None:
    run(speech, SHORT)
    assert "espeak" not in Path("/proc/self/maps").read_text()
    assert "espeak" in Path(f"/proc/{helper(speech).pid}/maps").read_text()


def test_it_speaks_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`antiphon` is called from where its user is: an editable install is found by its path alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    speech = Speech()
    speech.load("cpu", MemoryPolicy())
    try:
        assert next_block(speech.generate([checked(speech, SHORT)])) is not None
    finally:
        speech.unload()


def test_importing_the_engine_is_light() -> None:
    program = (
        "import sys; import gpuworker.engines.speech.engine; "
        "print([m for m in ('torch', 'ctypes.util', 'espeakng_loader', 'asyncio') if m in sys.modules])"
    )
    listed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert "torch" not in listed.stdout
    assert "espeakng_loader" not in listed.stdout
    assert "asyncio" not in listed.stdout


def test_it_speaks_well_within_a_second_of_its_start() -> None:
    def first_block_s() -> float:
        speech = Speech()
        started = time.perf_counter()
        speech.load("cpu", MemoryPolicy())
        try:
            next_block(speech.generate([checked(speech, SHORT)]))
            return time.perf_counter() - started
        finally:
            speech.unload()

    # One of several: the machine of a test does other things too.
    assert any(first_block_s() < 1 for _ in range(10))


def test_a_helper_killed_in_mid_sentence_fails_that_job_by_name_and_the_next_has_a_fresh_one(speech: Speech) -> None:
    expected = run(speech, SHORT).pcm
    killed = helper(speech)
    events = speech.generate([checked(speech, ENDLESS)])
    next_block(events)
    killed.kill()
    with pytest.raises(SpeakerFailed, match=rf"espeak_process \(process {killed.pid}\) died while it spoke"):
        list(events)
    assert run(speech, SHORT).pcm.tobytes() == expected.tobytes()
    assert helper(speech).pid != killed.pid


def test_a_helper_that_dies_while_a_text_is_handed_over_is_replaced(
    speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(speech, SHORT).pcm
    dead = helper(speech)
    dead.kill()
    dead.wait()
    monkeypatch.setattr(subprocess.Popen, "poll", lambda _: None)  # as a moment before its death
    assert run(speech, SHORT).pcm.tobytes() == expected.tobytes()
    assert helper(speech).pid != dead.pid


def test_a_crash_of_the_library_takes_one_text_with_it(speech: Speech) -> None:
    spared = speech.generate([checked(speech, SHORT)])
    next_block(spared)
    events = speech.generate([checked(speech, ENDLESS)])
    next_block(events)
    for child in helper(speech).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # the short text's may be done by now
            child.send_signal(signal.SIGSEGV)
    with pytest.raises(SpeakerFailed, match="died"):
        list(events)
    survivor = helper(speech).pid
    assert run(speech, SHORT).done
    assert helper(speech).pid == survivor


def test_a_text_refused_by_the_library_is_an_error_with_its_message(speaker: Speaker) -> None:
    request = {**espeak.make_request("gmw/xx", {"speed": 1, "pitch": 50, "range": 50, "volume": 100}, 0)}
    with pytest.raises(SpeakerFailed, match="espeak-ng has no voice 'gmw/xx'"):
        list(speaker.speak({**request, "text": "a", "ssml": False}))
    with pytest.raises(SpeakerFailed, match="KeyError"):
        list(speaker.speak({"text": "a"}))


def test_a_listener_that_leaves_stops_the_work(speech: Speech) -> None:
    events = speech.generate([checked(speech, ENDLESS)])
    next_block(events)
    working = helper(speech).children()
    assert working
    events.close()
    _, alive = psutil.wait_procs(working, timeout=20)
    assert alive == []


def test_the_helper_lets_the_worker_finish_when_the_whole_group_is_signalled_to_stop(speech: Speech) -> None:
    process = helper(speech)
    events = speech.generate([checked(speech, LONG)])
    next_block(events)
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    assert sum(len(event.pcm) for _, event in events if hasattr(event, "pcm")) > 0
    assert helper(speech).pid == process.pid
    assert process.is_running()


async def test_the_helper_ends_with_the_process_that_started_it() -> None:
    program = (
        "import os, signal\n"
        "from gpuworker.engine import MemoryPolicy\n"
        "from gpuworker.engines.speech.engine import Speech\n"
        "speech = Speech()\n"
        "speech.load('cpu', MemoryPolicy())\n"
        "print(speech.helper_pids[0], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    await eventually(lambda: gone(int(ended.stdout)))


def test_unloading_ends_the_helper() -> None:
    speech = Speech()
    speech.load("cpu", MemoryPolicy())
    process = helper(speech)
    speech.unload()
    assert not process.is_running()
    assert speech.helper_pids == []


def test_without_a_library_loading_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "find_espeak", lambda: None)
    monkeypatch.setattr(flite, "find_flite", lambda: None)
    speech = Speech()
    assert speech.capabilities().voices == ()
    with pytest.raises(RuntimeError, match=r"pip install 'antiphon\[espeak\]'"):
        speech.load("cpu", MemoryPolicy())


def test_a_library_that_does_not_open_is_named(tmp_path: Path) -> None:
    speaker = Speaker("gpuworker.engines.speech.espeak_process", [str(tmp_path / "none.so"), str(tmp_path)])
    with pytest.raises(SpeakerFailed, match=r"espeak_process did not start: .*none\.so"):
        speaker.start()
    assert speaker.pid is None


@pytest.mark.parametrize("opens", [True, False])
def test_a_helper_whose_starter_has_gone_before_it_was_ready_ends_silently(opens: bool) -> None:
    found = espeak.find_espeak()
    assert found is not None
    arguments = [str(found.library), str(found.data)] if opens else ["none.so", "none"]
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        ended = subprocess.run(
            [sys.executable, "-m", "gpuworker.engines.speech.espeak_process", *arguments],
            stdin=theirs.fileno(),
            capture_output=True,
            cwd=ROOT,
            timeout=30,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_helper_that_cannot_even_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpeakerFailed, match="no_such_process did not start: it died"):
        Speaker("gpuworker.engines.no_such_process").start()


def test_the_data_may_lie_deeper_than_the_library_can_remember(tmp_path: Path) -> None:
    files = espeak.find_espeak()
    assert files is not None
    deep = tmp_path.joinpath(*["a-rather-long-name-for-a-folder"] * 6)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(files.data)
    speaker = espeak.make_speaker(espeak.Files(files.library, deep / "espeak-ng-data"))
    try:
        request = espeak.make_request("gmw/en-US", {"speed": 1, "pitch": 50, "range": 50, "volume": 100}, 0)
        assert b"".join(spoken.pcm for spoken in speaker.speak({**request, "text": "Hello.", "ssml": False}))
    finally:
        speaker.stop()
