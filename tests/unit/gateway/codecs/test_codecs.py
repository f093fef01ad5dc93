"""Encoded audio, decoded by other libraries: whole, cut short, converted, and fed in pieces of any size."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bus.errors import Invalid
from gateway.codecs import FORMATS, Encoding, Format, checked
from gateway.codecs.telephone import to_g711
from tests.support.codecs import Tenant, decoded, encoded, likeness, pitch_hz, sine, voice_like

LOSSLESS = ("pcm", "wav", "flac")
#: Seconds of audio that an encoder may hold after a block was fed, and seconds that a codec adds around the audio.
LAG_S = {"pcm": 0, "wav": 0, "flac": 0.05, "mp3": 0.06, "opus": 0.05, "aac": 0.11, "ulaw": 0.005, "alaw": 0.005}
AROUND_S = {"mp3": 0.085, "aac": 0.095}
#: Least likeness of the decoded audio with the input.
LIKENESS = {"aac": 0.995, "opus": 0.995, "ulaw": 0.995, "alaw": 0.995, "mp3": 0.999}
MEDIA = [(24_000, 1), (48_000, 2), (22_050, 1)]
formats = pytest.mark.parametrize("codec", FORMATS)
media = pytest.mark.parametrize(("rate_hz", "channels"), MEDIA)


@formats
@media
async def test_a_format_decodes_to_its_input(codec: str, rate_hz: int, channels: int) -> None:
    audio, form = voice_like(1.517, rate_hz, channels), Format(codec)
    body = b"".join(await encoded(form, rate_hz, audio, rate_hz // 10))
    out_hz, out_channels = form.media(rate_hz, channels)
    decoded_audio, out_rate_hz = decoded(body, form, out_hz, out_channels)
    if codec in LOSSLESS:
        assert out_rate_hz == rate_hz
        assert np.array_equal(decoded_audio, audio)
        return
    lasts_s, around_s = len(audio) / rate_hz, AROUND_S.get(codec, 0.5 / out_rate_hz)
    assert lasts_s - 0.5 / out_rate_hz <= len(decoded_audio) / out_rate_hz <= lasts_s + around_s
    mono = audio.mean(axis=1) if out_channels < channels else audio[:, 0].astype(np.float64)
    at = np.arange(round(len(mono) * out_rate_hz / rate_hz)) * rate_hz / out_rate_hz
    like, lag = likeness(np.interp(at, np.arange(len(mono)), mono), decoded_audio[:, 0])
    assert like > LIKENESS[codec]
    assert 0 <= lag <= (1105 if codec in AROUND_S else 0)


@formats
@media
async def test_a_stream_cut_behind_any_block_plays_up_to_there(codec: str, rate_hz: int, channels: int) -> None:
    audio, form, block_frames = voice_like(0.8, rate_hz, channels), Format(codec), rate_hz // 20
    parts = await encoded(form, rate_hz, audio, block_frames)
    out_hz, out_channels = form.media(rate_hz, channels)
    for blocks in range(1, len(parts)):
        decoded_audio, out_rate_hz = decoded(b"".join(parts[:blocks]), form, out_hz, out_channels)
        fed_s = min(blocks * block_frames, len(audio)) / rate_hz
        assert len(decoded_audio) / out_rate_hz >= fed_s - LAG_S[codec], f"behind block {blocks}"
        if codec in LOSSLESS:
            assert np.array_equal(decoded_audio, audio[: len(decoded_audio)])


@pytest.mark.parametrize(
    "form", [*map(Format, FORMATS), Format("mp3", 16_000, 64_000, 1.5), Format("wav", speed=0.4)], ids=str
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 6_000), min_size=1, max_size=12))
def test_equal_audio_becomes_equal_bytes_however_it_is_cut(form: Format, cuts: list[int]) -> None:
    audio = voice_like(0.25, 24_000).tobytes()

    async def fed(sizes: list[int]) -> bytes:
        encoding, rest, body = Encoding(form, 24_000, 1, caller=Tenant("tenant-a"), tag=""), audio, b""
        for size in sizes:
            body, rest = body + await encoding.feed(rest[: 2 * size]), rest[2 * size :]
        body += await encoding.feed(rest) + await encoding.finish()
        encoding.close()
        return body

    assert asyncio.run(fed(cuts)) == asyncio.run(fed([]))


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.5, 0.9, 1.3, 2.0, 3.1, 4.0])
async def test_speed_changes_the_length_to_the_frame_and_not_the_pitch(speed: float) -> None:
    audio = sine(2.0, 24_000, 440.0)
    for form in (Format("pcm", speed=speed), Format("flac", 16_000, speed=speed)):
        body = b"".join(await encoded(form, 24_000, audio, 1_111))
        rate_hz, _ = form.media(24_000, 1)
        decoded_audio, _ = decoded(body, form, rate_hz, 1)
        assert len(decoded_audio) == round(2.0 * rate_hz / speed) == form.frames(48_000, 24_000, 1)
        assert abs(pitch_hz(decoded_audio[:, 0], rate_hz) - 440.0) < 3.0
        # The end is complete: the last twentieth is as loud as the rest.
        tail = decoded_audio[-len(decoded_audio) // 20 :, 0].astype(float)
        assert np.sqrt((tail**2).mean()) > 0.8 * np.sqrt((decoded_audio[:, 0].astype(float) ** 2).mean())


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("codec", ["pcm", "wav", "flac", "mp3", "aac", "ulaw"])
async def test_the_requested_rate_is_the_rate_of_the_audio(codec: str, rate_hz: int) -> None:
    form = checked(Format(codec, rate_hz))
    body = b"".join(await encoded(form, 24_000, sine(0.6, 24_000, 700.0), 2_400))
    decoded_audio, out_rate_hz = decoded(body, form, rate_hz, 1)
    assert out_rate_hz == rate_hz
    assert abs(pitch_hz(decoded_audio[:, 0], out_rate_hz) - 700.0) < 3.0
    if codec in {*LOSSLESS, "ulaw"}:
        assert len(decoded_audio) == round(0.6 * rate_hz)


@pytest.mark.parametrize("frames", [1, 2, 3, 100, 1_001])
@pytest.mark.parametrize(
    ("rate_hz", "form"),
    [
        (24_000, Format("pcm", 8_000)),
        (8_000, Format("pcm", 192_000)),
        (44_100, Format("pcm", 48_000)),
        (24_000, Format("pcm", speed=0.3)),
        (22_050, Format("pcm", 16_000, speed=3.7)),
    ],
    ids=str,
)
async def test_the_shortest_audio_is_converted_to_the_frame(rate_hz: int, form: Format, frames: int) -> None:
    body = b"".join(await encoded(form, rate_hz, b"\x40\x1f" * frames, 37))
    assert len(body) == 2 * form.frames(frames, rate_hz, 1)


@pytest.mark.parametrize(
    ("codec", "bitrate_bps"), [("mp3", 32_000), ("mp3", 160_000), ("opus", 32_000), ("aac", 48_000)]
)
async def test_the_bitrate_is_about_the_requested_one(codec: str, bitrate_bps: int) -> None:
    noise = np.random.default_rng(0).normal(0, 3000, (72_000, 1)).astype("<i2")
    body = b"".join(await encoded(checked(Format(codec, 0, bitrate_bps)), 24_000, noise, 2_400))
    assert 0.7 * bitrate_bps < len(body) * 8 / 3.0 < 1.4 * bitrate_bps


@pytest.mark.parametrize("codec", FORMATS)
async def test_audio_of_no_length_has_a_body_all_the_same(codec: str) -> None:
    form = Format(codec)
    body = b"".join(await encoded(form, 24_000, b"", 1))
    decoded_audio, _ = decoded(body, form, *form.media(24_000, 1))
    assert len(decoded_audio) == 0
    assert body or codec not in {"wav", "flac", "opus"}


async def test_a_flac_of_known_length_states_it() -> None:
    audio = voice_like(0.5, 24_000)
    with_length, without = [
        b"".join(await encoded(Format("flac"), 24_000, audio, 2_400, frames)) for frames in (12_000, None)
    ]
    assert (int.from_bytes(with_length[21:26], "big") & (1 << 36) - 1, with_length[26:]) == (12_000, without[26:])
    assert int.from_bytes(without[21:26], "big") & (1 << 36) - 1 == 0
    assert len(decoded(with_length, Format("flac"), 24_000, 1)[0]) == 12_000


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_every_sample_goes_to_the_nearest_code_of_its_law(law: str) -> None:
    samples = np.arange(-32_768, 32_768, dtype="<i2")
    levels = np.unique(decoded(bytes(range(256)), Format(law), 8_000, 1)[0].astype(int))
    decoded_audio = decoded(to_g711(samples.tobytes(), law), Format(law), 8_000, 1)[0][:, 0].astype(int)
    above = np.searchsorted(levels, samples).clip(1, len(levels) - 1)
    nearest = np.minimum(np.abs(samples - levels[above]), np.abs(samples - levels[above - 1]))
    assert np.array_equal(np.abs(samples - decoded_audio), nearest)
    assert to_g711(bytes(2), law) == (b"\xff" if law == "ulaw" else b"\xd5")


@pytest.mark.parametrize(
    ("rate_hz", "channels", "out_hz"), [(24_000, 1, 8_000), (22_050, 1, 8_000), (48_000, 2, 8_000), (8_000, 1, 24_000)]
)
@pytest.mark.parametrize("block_frames", [997, 50_000])
async def test_a_tone_is_resampled_exactly_and_one_above_the_band_is_removed(
    rate_hz: int, channels: int, out_hz: int, block_frames: int
) -> None:
    form = Format("pcm", out_hz)

    async def resampled(pitch_hz: float) -> NDArray[np.float64]:
        tone = np.frombuffer(sine(1.0, rate_hz, pitch_hz), "<i2")
        audio = np.repeat(tone, channels).reshape(-1, channels)
        pcm = b"".join(await encoded(form, rate_hz, audio, block_frames))
        return np.frombuffer(pcm, "<i2").reshape(-1, channels)[:, 0].astype(float)

    decoded_audio = await resampled(1_000.0)
    assert len(decoded_audio) == out_hz
    wanted = np.frombuffer(sine(1.0, out_hz, 1_000.0), "<i2")
    assert np.abs(decoded_audio - wanted)[100:-100].max() < 20  # 52 dB below the tone
    if out_hz < rate_hz:
        folded = await resampled(0.3 * rate_hz)
        assert folded[100:-100].std() < 30  # it would come back as another tone


@pytest.mark.parametrize(
    ("form", "path", "says"),
    [
        (Format("mp3", 96_000), "rate", "mp3 takes 8000, 11025, .*48000 Hz, not 96000"),
        (Format("opus", 44_100), "rate", "opus takes 8000, .*, not 44100"),
        (Format("pcm", 3_999), "rate", "from 4000 to 192000 Hz, not 3999"),
        (Format("mp3", 0, 7_999), "bitrate", "from 8000 to 320000 bit/s, not 7999"),
        (Format("flac", 0, 64_000), "bitrate", "flac has no bitrate to choose"),
        (Format("wav", speed=0.2), "speed", "from 0.25 to 4, not 0.2"),
        (Format("wav", speed=4.01), "speed", "from 0.25 to 4, not 4.01"),
        (Format("wav", speed=float("nan")), "speed", "not nan"),
    ],
)
def test_impossible_options_are_refused_with_field_limit_and_value(form: Format, path: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        checked(form)
    assert refused.value.path == path
    with pytest.raises(Invalid, match=r"^their\.field: ") as renamed:
        checked(form, rate="their.field", bitrate="their.field", speed="their.field")
    assert renamed.value.path == "their.field"


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        (Format("mp3"), "audio/mpeg"),
        (Format("opus"), "audio/ogg"),
        (Format("aac"), "audio/aac"),
        (Format("flac"), "audio/flac"),
        (Format("wav"), "audio/wav"),
        (Format("pcm"), "audio/pcm"),
        (Format("ulaw"), "audio/basic"),
        (Format("ulaw", 16_000), "audio/PCMU;rate=16000"),
        (Format("alaw"), "audio/PCMA;rate=8000"),
    ],
)
def test_each_format_has_its_content_type(form: Format, content_type: str) -> None:
    assert form.content_type == content_type
    assert form.extension == form.codec


async def test_encoders_bring_no_threads_of_their_own() -> None:
    def foreign() -> int:
        """Threads that are not Python's; other libraries of this process have some too."""
        return sum(1 for _ in Path("/proc/self/task").iterdir()) - threading.active_count()

    before = foreign()
    encodings = [
        Encoding(form, 24_000, 1, caller=Tenant("tenant-a"), tag="")
        for form in (*map(Format, FORMATS), Format("mp3", speed=2.0))
        for _ in range(4)
    ]
    pcm = voice_like(0.2, 24_000).tobytes()
    for encoding in encodings:
        await encoding.feed(pcm)

    assert foreign() - before < len(encodings) / 2
    for encoding in encodings:
        encoding.close()
