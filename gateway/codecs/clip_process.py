"""The process that decodes one file of a stranger's: bytes on its standard input, a line of JSON and PCM on its output.

It trusts nothing in the file: FFmpeg is given the containers and codecs that it may use, and the process limits of its
own before it reads the first byte. It opens no file and no connection, and starts no process.
"""

import ctypes
import io
import json
import resource
import sys
from array import array
from typing import Any, Final

import av
from av.audio.resampler import AudioResampler

RATE_HZ: Final = 24_000
_CONTAINERS: Final = "wav,mp3,flac,ogg,aac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2"
_CODECS: Final = (
    "pcm_u8,pcm_s16le,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_alaw,pcm_mulaw,flac,mp3,mp3float,aac,alac,vorbis,opus"
)
_MIN_RATE_HZ: Final = 8_000
_MAX_RATE_HZ: Final = 192_000
_MAX_CHANNELS: Final = 8
_CPU_S: Final = 8
_MEMORY_BYTES: Final = 1 << 30
#: `CLONE_NEWUSER` and `CLONE_NEWNET` of Linux's <sched.h>.
_NEW_USER: Final = 0x1000_0000
_NEW_NETWORK: Final = 0x4000_0000
#: -60 dB of full scale: below it there is no speech.
_SILENT: Final = 33
#: -26 dB.
_QUIET: Final = 1_640
_MAX_CLIPPED: Final = 0.001


class Refused(Exception):
    """The file is no clip of a voice."""


def decode(data: bytes, min_s: float, max_s: float) -> tuple[dict[str, Any], bytes]:
    """Facts about the clip, and its sound: mono, s16le, 24 kHz. Decoding stops behind `max_s`. Raises Refused."""
    options = {"format_whitelist": _CONTAINERS, "codec_whitelist": _CODECS, "protocol_whitelist": ""}
    try:
        with av.open(io.BytesIO(data), options=options) as container:
            stream = _audio_stream(container)
            pcm, container_name = _read(container, stream, max_s), container.format.name
    except Refused:
        raise
    except (av.FFmpegError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(f"is no sound that can be decoded: {reason[:200]}") from error
    seconds = len(pcm) / (2 * RATE_HZ)
    if seconds < min_s:
        raise Refused(f"has {seconds:.2f} s of sound, the least is {min_s:g} s")
    samples = array("h", pcm)
    loudest, lowest = max(samples), min(samples)
    peak = max(loudest, -lowest)
    if peak < _SILENT:
        raise Refused("is silent: no sample is louder than -60 dB")
    warnings = ["quiet"] if peak < _QUIET else []
    if samples.count(32_767) + samples.count(-32_768) > _MAX_CLIPPED * len(samples):
        warnings.append("clipped")
    return {"seconds": round(seconds, 4), "container": container_name, "warnings": warnings}, pcm


def _audio_stream(container: Any) -> Any:
    cover = av.stream.Disposition.attached_pic
    others = [stream for stream in container.streams if stream.type == "video" and not stream.disposition & cover]
    if others:
        raise Refused("is a video; send its sound alone")
    streams = container.streams.audio
    if len(streams) != 1:
        raise Refused(f"has {len(streams)} audio streams, and must have 1")
    stream = streams[0]
    codec = stream.codec_context
    if codec is None or codec.name not in _CODECS.split(","):
        raise Refused(f"has the codec {getattr(codec, 'name', 'unknown')}, which is not one of {_CODECS}")
    if not _MIN_RATE_HZ <= codec.sample_rate <= _MAX_RATE_HZ:
        raise Refused(f"has {codec.sample_rate} samples per second, and must have {_MIN_RATE_HZ} to {_MAX_RATE_HZ}")
    if not 1 <= codec.channels <= _MAX_CHANNELS:
        raise Refused(f"has {codec.channels} channels, the limit is {_MAX_CHANNELS}")
    codec.thread_count = 1
    return stream


def _read(container: Any, stream: Any, max_s: float) -> bytes:
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    pcm, max_bytes = bytearray(), int(max_s * RATE_HZ) * 2
    for frame in container.decode(stream):
        for each in resampler.resample(frame):
            pcm += bytes(each.planes[0])[: 2 * each.samples]
        if len(pcm) > max_bytes:
            raise Refused(f"has more than {max_s:g} s of sound")
    for each in resampler.resample(None):
        pcm += bytes(each.planes[0])[: 2 * each.samples]
    return bytes(pcm[:max_bytes])


def confine() -> None:
    """Limit this process for good: time, memory, no file to write, no child, where the system allows it no network."""
    for limit, value in (
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(limit, (value, value))
    if sys.platform == "linux":
        _leave_network()
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _leave_network() -> None:
    # `os.unshare` is of Python 3.12. A system without user namespaces refuses: the other limits hold.
    ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)


def main() -> None:
    """Decode standard input. `sys.argv`: the least and the most seconds."""
    av.logging.set_level(av.logging.PANIC)
    confine()
    data = sys.stdin.buffer.read()
    try:
        facts, pcm = decode(data, float(sys.argv[1]), float(sys.argv[2]))
    except Refused as error:
        facts, pcm = {"refused": str(error)}, b""
    except MemoryError:
        facts, pcm = {"refused": f"needs more than {_MEMORY_BYTES:,} bytes of memory to decode"}, b""
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + pcm)


if __name__ == "__main__":
    main()
