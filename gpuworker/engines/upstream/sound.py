"""Blocks from an answer: decoded, cut into small pieces, and compared with the text that they should speak."""

from collections.abc import Generator

from gpuworker.engine import Block, EngineJob, Pcm
from gpuworker.engines.upstream.audio import Decoder, RawDecoder, Shape, WavDecoder
from gpuworker.engines.upstream.errors import BadAudio, UpstreamFailed
from gpuworker.engines.upstream.exchange import Head
from gpuworker.engines.upstream.options import UpstreamOptions
from gpuworker.engines.upstream.server import Reply, Waiting, Waits
from gpuworker.engines.upstream.sse import EventDecoder

#: The most seconds of one block: the host can schedule another job after each.
_BLOCK_S = 0.5
#: Less than the part of a second is no sound yet: a server that drips bytes would keep its job to the deadline.
_STEPS_PER_S = 50
#: Media types of answers that are no PCM.
_CODED = frozenset(f"audio/{name}" for name in ("mpeg", "mp3", "ogg", "opus", "flac", "aac", "mp4", "wav", "x-wav"))


class Sound:
    """The audio of one job, from its first frame on."""

    def __init__(self, decoder: Decoder, shape: Shape) -> None:
        self._decoder = decoder
        self._shape = shape
        self.num_frames = 0
        self._is_silent = True

    def read(self, reply: Reply, first_s: float, silence_s: float) -> Generator[Waits | Block, None, None]:
        """The blocks of an answer, and the waits for them.

        `first_s`: until there is sound; `silence_s`: until there is more, whatever else arrives. Raises as `feed`, Cut,
        AttemptFailed.
        """
        waiting = Waiting(self._shape.name, "waiting for the first sound", first_s)
        wanted = self._shape.rate_hz // _STEPS_PER_S
        for item in reply.read(silence_s):
            if not isinstance(item, bytes):
                yield item
                continue
            yield from self.feed(item)
            if self.num_frames >= wanted:
                wanted = self.num_frames + self._shape.rate_hz // _STEPS_PER_S
                waiting = Waiting(self._shape.name, "waiting for more sound", silence_s)
            else:
                yield waiting.event()

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
    coding = head.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", ""}:
        raise BadAudio(f"the answer is encoded as {coding!r}, which nobody requested")
    if media == "text/event-stream":
        return EventDecoder(inner)
    if media.startswith("text/") or media in {"application/json", "application/xml"}:
        raise BadAudio(f"the answer is {media}, which is no audio")
    if not is_wav and media in _CODED:
        raise BadAudio(f"the answer is {media}, which is no PCM")
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
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in (rate, channels)):
        raise UpstreamFailed(f"{shape.name} sends PCM of rate {rate[:20]!r}, channels {channels[:20]!r}")
    shape.check(int(rate), int(channels))


def least_seconds(job: EngineJob, letters_per_second: float) -> float:
    """The shortest that a text can be spoken in."""
    speed = job.params.get("speed")
    num_letters = sum(char.isalnum() for char in job.input)
    return num_letters / letters_per_second / (max(1.0, float(speed)) if isinstance(speed, int | float) else 1.0)
