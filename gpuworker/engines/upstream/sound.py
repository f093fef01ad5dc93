"""Blocks from an answer: decoded, cut into small pieces, and compared with the text that they should speak."""

from collections.abc import Generator

from gpuworker.engine import Block, EngineJob, Pcm
from gpuworker.engines.upstream.audio import Decoder, RawDecoder, Shape, WavDecoder
from gpuworker.engines.upstream.errors import BadAudio, UpstreamFailed
from gpuworker.engines.upstream.exchange import Head
from gpuworker.engines.upstream.options import UpstreamOptions
from gpuworker.engines.upstream.sse import EventDecoder

#: The most seconds of one block: the host can schedule another job after each.
_BLOCK_S = 0.5


class Sound:
    """The audio of one job, from its first frame on."""

    def __init__(self, decoder: Decoder, shape: Shape) -> None:
        self._decoder = decoder
        self._shape = shape
        self.num_frames = 0
        self._is_silent = True

    def feed(self, data: bytes) -> Generator[Block, None, None]:
        """The blocks that `data` completes. Raises BadAudio, UpstreamFailed."""
        pcm = self._decoder.feed(data)
        most = max(1, int(_BLOCK_S * self._shape.rate_hz))
        for begin in range(0, len(pcm), most):
            yield self._block(pcm[begin : begin + most])

    def finish(self, least_s: float) -> None:
        """The answer has ended. Raises BadAudio if it was cut short, has no sound, or less than `least_s` seconds."""
        self._decoder.finish()
        if self._is_silent:
            raise BadAudio(f"the answer has no sound: {self.num_frames} frames, all of them 0")
        seconds = self.num_frames / self._shape.rate_hz
        if seconds < least_s:
            raise BadAudio(f"{seconds:.2f} s of audio are too short for the text, which takes {least_s:.2f} s at least")

    def _block(self, pcm: Pcm) -> Block:
        self._is_silent = self._is_silent and not pcm.any()
        block = Block(self.num_frames, pcm)
        self.num_frames += len(pcm)
        return block


def decoder_of(head: Head, options: UpstreamOptions, shape: Shape) -> Decoder:
    """The decoder of an answer. Raises BadAudio if its media type is no audio, UpstreamFailed for another rate."""
    media = head.media
    is_wav = options.response_format == "wav" or options.api == "acestep"
    inner: Decoder = WavDecoder(shape) if is_wav else RawDecoder(shape.channels)
    if media == "text/event-stream":
        return EventDecoder(inner)
    if media.startswith("text/") or media in {"application/json", "application/xml"}:
        raise BadAudio(f"the answer is {media}, which is no audio")
    if not is_wav:
        _check_parameters(head, shape)
    return inner


def _check_parameters(head: Head, shape: Shape) -> None:
    """Compare the rate that a media type or a header of PCM names, if one does. Raises UpstreamFailed."""
    given: dict[str, str] = {}
    for parameter in head.headers.get("content-type", "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        given[name.strip().lower()] = value.strip().strip('"')
    rate = given.get("rate") or head.headers.get("x-sample-rate") or str(shape.rate_hz)
    channels = given.get("channels") or str(shape.channels)
    if not (rate.isascii() and rate.isdigit() and channels.isascii() and channels.isdigit()):
        raise UpstreamFailed(f"{shape.name} sends PCM of rate {rate[:20]!r}, channels {channels[:20]!r}")
    shape.check(int(rate), int(channels))


def least_seconds(job: EngineJob, letters_per_second: float) -> float:
    """The shortest that a text can be spoken in."""
    speed = job.params.get("speed")
    num_letters = sum(char.isalnum() for char in job.input)
    return num_letters / letters_per_second / (max(1.0, float(speed)) if isinstance(speed, int | float) else 1.0)
