"""Clips of voices: files of strangers, decoded in a process of their own."""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from bus.errors import Invalid
from gateway.codecs import clip_process, clips
from gateway.codecs.clips import ClipDecoder
from tests.support.clips import samples_of, tone_clip, wav


def children() -> set[int]:
    """Processes whose parent is this one."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = status.read_text().partition(" (")
        except OSError:
            continue
        if int(rest.rpartition(") ")[2].split()[1]) == os.getpid():
            found.add(int(pid))
    return found


def encoded(container: str, codec: str, rate_hz: int, seconds: float, layout: str = "mono", video: str = "") -> bytes:
    """A file with noise-free sound, and with a few pictures if `video`."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout=layout)
        if video:
            pictures = file.add_stream(video, rate=10)
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
            for index in range(10):
                picture = av.VideoFrame(64, 64, "yuv420p")
                picture.pts = index
                picture.time_base = Fraction(1, 10)
                file.mux(pictures.encode(picture))
            file.mux(pictures.encode(None))
        with av.open(io.BytesIO(tone_clip(seconds, rate_hz))) as source:
            resampler = av.AudioResampler(
                format=stream.format, layout=layout, rate=rate_hz, frame_size=stream.frame_size
            )
            for frame in source.decode(audio=0):
                for each in resampler.resample(frame):
                    file.mux(stream.encode(each))
        file.mux(stream.encode(None))
    return out.getvalue()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = children()
    yield
    assert children() <= before
    assert list(tmp_path.iterdir()) == []


def decode_here(data: bytes) -> tuple[float, bytes, list[str]]:
    """As the process does, in this one."""
    facts, pcm = clip_process.decode(data, 1.0, 10.0)
    return facts["seconds"], pcm, facts["warnings"]


async def decode(data: bytes) -> tuple[float, bytes, list[str]]:
    clip = await ClipDecoder(1.0, 10.0).decode(data, "audio_sample")
    assert samples_of(clip.wav()) == clip.pcm
    return clip.seconds, clip.pcm, clip.warnings


async def test_a_clip_of_the_right_form_is_kept_as_it_is() -> None:
    data = tone_clip(1.25)
    assert await decode(data) == (1.25, samples_of(data), [])


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"),
    [("mp3", "libmp3lame", 44_100), ("flac", "flac", 48_000), ("ogg", "libopus", 48_000), ("mp4", "aac", 22_050)],
)
def test_other_formats_are_resampled(container: str, codec: str, rate_hz: int) -> None:
    seconds, pcm, _ = decode_here(encoded(container, codec, rate_hz, 2.0))
    assert seconds == pytest.approx(2.0, abs=0.1)
    assert len(pcm) / 48_000 == pytest.approx(seconds, abs=0.001)


def test_quiet_and_clipped_clips_have_a_warning() -> None:
    assert decode_here(tone_clip(level=0.02))[2] == ["quiet"]
    assert decode_here(wav((b"\xff\x7f" * 30 + b"\x00\x80" * 30) * 500))[2] == ["clipped"]


HOSTILE = {
    "empty": (b"", "no sound that can be decoded"),
    "no_sound": (b"<html>hello</html>" * 100, "no sound that can be decoded"),
    "playlist": (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "no sound that can be decoded"),
    "concat": (b"ffconcat version 1.0\nfile /etc/passwd\n", "no sound that can be decoded"),
    "one_sample_a_second": (tone_clip()[:24] + b"\1\0\0\0" + tone_clip()[28:], "has 1 samples per second"),
    "silence": (wav(bytes(96_000)), "is silent"),
    "too_short": (tone_clip(0.4), "has 0.40 s of sound, the least is 1 s"),
    "cut_in_its_head": (tone_clip()[:40], "sound"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_the_reason(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(clip_process.Refused, match=reason):
        decode_here(data)


async def test_a_refusal_names_the_field_and_a_process_that_dies_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="audio_sample: is no sound that can be decoded") as refused:
        await decode(b"<html>")
    assert refused.value.path == "audio_sample"
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Invalid, match=r"audio_sample: .*its decoder ended with status 1"):
        await decode(tone_clip())


async def test_a_bomb_is_decoded_no_further_than_the_limit() -> None:
    bomb = encoded("flac", "flac", 8_000, 60.0)
    with pytest.raises(Invalid, match=r"has more than 10 s of sound"):
        await decode(bomb)


def test_a_video_is_refused() -> None:
    with pytest.raises(clip_process.Refused, match="is a video"):
        decode_here(encoded("mp4", "aac", 24_000, 2.0, video="mpeg4"))


def test_a_codec_that_is_not_listed_is_refused() -> None:
    with pytest.raises(clip_process.Refused, match=r"has the codec|is no sound"):
        decode_here(encoded("matroska", "ac3", 48_000, 2.0))


@pytest.fixture
def stuck(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that never ends by itself."""
    script = tmp_path_factory.mktemp("stuck") / "python"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")


@pytest.mark.usefixtures("stuck")
async def test_cancelling_ends_the_process() -> None:
    before = children()
    task = asyncio.create_task(decode(tone_clip(8.0)))
    while not any(is_asleep(pid) for pid in children() - before):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() <= before


@pytest.mark.usefixtures("stuck")
async def test_a_process_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "_DECODE_S", 0.1)
    before = children()
    with pytest.raises(Invalid, match=r"audio_sample: took more than 0\.1 s"):
        await decode(tone_clip())
    assert children() <= before


@pytest.mark.parametrize(
    "attempt",
    [
        "os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b'x' * 10)",
        "b'x' * (2 << 30)",
        "[os.open('/dev/null', os.O_RDONLY) for _ in range(100)]",
    ],
)
def test_the_process_may_not(attempt: str, tmp_path: Path) -> None:
    code = f"import os, sys; from gateway.codecs.clip_process import confine; confine(); {attempt}; print('done')"
    written = tmp_path / "written"
    done = subprocess.run([sys.executable, "-c", code, str(written)], capture_output=True, text=True, check=False)
    assert done.returncode, done.stdout
    assert "done" not in done.stdout
    assert not written.exists() or written.stat().st_size == 0
    written.unlink(missing_ok=True)
