"""The tag that says that audio is synthetic, as ffprobe and PyAV read it from each format."""

import asyncio
import io
import json
import shutil
import subprocess
from typing import Any

import av
import pytest

from bus import wire
from gateway.codecs import FORMATS, Format
from gateway.codecs.format import marks_of
from tests.support.codecs import decoded, encoded, voice_like

JOB = wire.Job(input="x", id="c" + 40 * "7", model="speech", version="v1")
TAG = f"Synthetic audio; generator=Antiphon; model=speech; version=v1; job={JOB.id}."
TAGGED = ["wav", "mp3", "opus", "aac", "flac"]
RATE_HZ = 24_000


def body(codec: str, tag: str, num_parts: int | None = None, frames: int | None = None) -> bytes:
    """The bytes of half a second of audio, or of its first blocks."""
    parts = asyncio.run(encoded(Format(codec), RATE_HZ, voice_like(0.5, RATE_HZ), 4_800, frames, tag))
    return b"".join(parts[:num_parts])


def comments(data: bytes) -> list[str]:
    """The comments of a file and of its streams, as ffprobe shows them."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", "-"]
    shown: dict[str, Any] = json.loads(subprocess.run(command, input=data, capture_output=True, check=True).stdout)
    tags = [part.get("tags", {}) for part in (shown["format"], *shown["streams"])]
    return [value for each in tags for name, value in each.items() if name.lower() == "comment"]


@pytest.mark.parametrize("codec", FORMATS)
def test_a_format_has_a_tag_if_its_container_has_comments(codec: str) -> None:
    assert Format(codec).tag(JOB) == (TAG if codec in TAGGED else "")
    assert marks_of(Format(codec), JOB) == ("tag" if codec in TAGGED else "none")
    unmarked = wire.Job(input="x", id=JOB.id, model="speech", version="v1", marking="none")
    assert (Format(codec).tag(unmarked), marks_of(Format(codec), unmarked)) == ("", "none")


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe, of Debian's package ffmpeg, is not here")
@pytest.mark.parametrize("codec", TAGGED)
def test_ffprobe_shows_the_tag_of_a_file_and_of_a_stream_cut_short(codec: str) -> None:
    assert comments(body(codec, TAG)) == [TAG]
    assert comments(body(codec, TAG, num_parts=2)) == [TAG]
    assert comments(body(codec, "")) == []


@pytest.mark.parametrize("codec", TAGGED)
def test_pyav_reads_the_tag_and_the_same_audio(codec: str) -> None:
    tagged, plain = body(codec, TAG, frames=12_000), body(codec, "", frames=12_000)
    with av.open(io.BytesIO(tagged)) as file:
        found = {**file.metadata, **file.streams.audio[0].metadata}
    assert found["comment"] == TAG
    assert len(tagged) > len(plain)
    samples = [decoded(each, Format(codec), RATE_HZ, 1)[0].tobytes() for each in (tagged, plain)]
    assert samples[0] == samples[1]
    assert TAG.encode() in tagged[:300]


@pytest.mark.parametrize("codec", TAGGED)
def test_libav_takes_every_option(codec: str, caplog: pytest.LogCaptureFixture) -> None:
    """PyAV logs those that a container does not have, at each stream."""
    body(codec, TAG)
    assert caplog.messages == []
