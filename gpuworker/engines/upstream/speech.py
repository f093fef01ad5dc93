"""A job of speech: one request to `/v1/audio/speech`, whose answer is the audio."""

import json
from collections.abc import Generator, Mapping
from typing import Any

from gpuworker.engine import AttemptFailed, Block, Done, EngineJob, Rejected
from gpuworker.engines.upstream.audio import Shape
from gpuworker.engines.upstream.cloning import Cloning
from gpuworker.engines.upstream.errors import BadAudio, Cut, fault
from gpuworker.engines.upstream.options import UpstreamOptions
from gpuworker.engines.upstream.server import Server, Waits
from gpuworker.engines.upstream.sound import Sound, decoder_of, least_seconds

_PATH = "/v1/audio/speech"
#: Servers take seeds of 31 bits.
SEED_MASK = 0x7FFF_FFFF


class Speech:
    """Speaks jobs by one server."""

    def __init__(self, server: Server, options: UpstreamOptions, shape: Shape, clips: Mapping[str, str]) -> None:
        """`clips`: the data URL of each voice that is a recording."""
        self._server = server
        self._options = options
        self._shape = shape
        self._clips = clips
        self._cloning = Cloning(server, options)

    def events(self, job: EngineJob) -> Generator[Waits | Block | Done, None, None]:
        """The job from its first frame on. Closing it closes the connection, which cancels the request.

        Raises Rejected, AttemptFailed, UpstreamFailed.
        """
        yield from self._server.take_place()
        try:
            voice = yield from self._cloning.fields(job)
            request = self._server.request(
                "POST", _PATH, json.dumps(self.fields(job, voice)).encode(), hops=job.hops + 1
            )
            reply = yield from self._server.open(job, request)
            try:
                sound = Sound(decoder_of(reply.head, self._options, self._shape), self._shape)
                yield from sound.read(reply, self._options.first_byte_s, self._options.silence_s)
                sound.finish(least_seconds(job, self._options.letters_per_second))
            except BadAudio as error:
                raise fault(job, f"{self._server.name}: {error}") from error
            except Cut as error:
                raise AttemptFailed(f"{self._server.name}: {error}", is_fault=False) from error
            finally:
                reply.close()
        except Rejected as error:
            if (lost := self._cloning.lost(job, error)) is not None:
                raise lost from error
            raise
        finally:
            self._server.free_place()
        yield Done({"api": self._options.api})

    def fields(self, job: EngineJob, voice: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of the request. `voice`: the fields of a clip that the job has."""
        options = self._options
        fields = {**options.fields, **job.params}
        fields |= {"model": options.model, "input": job.input, "response_format": options.response_format}
        if options.stream_format:
            fields["stream_format"] = options.stream_format
        if options.seed_field:
            fields[options.seed_field] = job.seed & SEED_MASK
        if voice:
            return {**fields, **voice}
        if job.voice in self._clips:
            clip = options.clips[job.voice]
            return fields | options.clip_fields | {"ref_audio": self._clips[job.voice], "ref_text": clip.text}
        return fields | {"voice": job.voice} if job.voice else fields
