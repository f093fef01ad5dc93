"""A job's sound as it comes, for whoever answers with it: a body, a socket, a line of JSON."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from bus import wire
from bus.attach import Attachment
from bus.errors import EngineFailed, JobError
from bus.interest import Listener
from bus.states import Status
from bus.subjects import LogSubjects
from gateway import find
from gateway.state import Gateway
from gateway.tape import Tape

#: What may wait in this process for one slow reader; the rest waits in its log.
MAX_BUFFER_BYTES: Final = 256 << 10


class Sound:
    """Iterate it once. Leaving `hear` or `join` before its end is hanging up."""

    def __init__(
        self, gateway: Gateway, name: LogSubjects, attachment: Attachment, listener: Listener, tape: Tape
    ) -> None:
        self._gateway, self._attachment, self._listener, self._tape = gateway, attachment, listener, tape
        self.name = name
        #: Set with the last piece of a job that is done, of which every frame has been given.
        self.is_whole = False

    @property
    def media(self) -> tuple[int, int]:
        """(rate_hz, channels); known from the first piece on. Raises EngineFailed if the log never told it."""
        if self._tape.media is None:
            raise EngineFailed("the job is done and never told its media")
        return self._tape.media

    @property
    def done(self) -> wire.Done:
        """What the job's end says; ask once it is whole."""
        assert self._tape.end is not None
        return wire.decode(wire.Done, self._tape.end.payload)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield PCM, s16le and interleaved; only the last piece may be empty.

        Raises the JobError that the job ended with, unless it is done; Gone, NotFound, Unreachable.
        """
        worker = ""
        async with aclosing(aiter(self._attachment)) as batches:
            async for batch in batches:
                pcm = self._tape.feed(batch)
                if self._tape.worker != worker:
                    worker = self._tape.worker
                    self._gateway.interest.spoke(self.name, worker)
                if self._tape.end is None:
                    if pcm:
                        yield pcm
                    continue
                self._listener.heard_the_end = True
                self._gateway.deadlines.forget(self.name)
                try:
                    self._tape.check_complete()
                except JobError:
                    if pcm:
                        yield pcm
                    raise
                self.is_whole = True
                yield pcm


@contextlib.asynccontextmanager
async def hear(gateway: Gateway, job: wire.Job) -> AsyncIterator[Sound]:
    """Put a complete job on the bus and listen to it.

    Raises as `Gateway.accept` does. Cancelling is hanging up: the job ends, unless it runs on or others listen.
    """
    bus = gateway.bus
    name = bus.subjects.log(job.tenant, job.id)
    # The order is what makes it whole: a listener before there is work, ears before there is sound.
    async with gateway.interest.listen(name, run_on=job.run_on is not False, linger_s=job.linger_s) as listener:
        attachment = Attachment(bus.connection, bus.logs, name, is_new=True, max_buffer_bytes=MAX_BUFFER_BYTES)
        async with attachment:
            accepted = await gateway.accept(name, job, listener)
            if not accepted.is_new:
                attachment.read_back()
            yield Sound(gateway, name, attachment, listener, Tape())


@contextlib.asynccontextmanager
async def join(gateway: Gateway, name: LogSubjects, found: Status, from_frame: int = 0) -> AsyncIterator[Sound]:
    """Listen to a job that exists, from a frame on that may be past or to come. `found`: where it stood just now.

    Listening to one that has ended is no interest in it. Raises Gone, NotFound, Unreachable.
    """
    bus, job, after_seq, media = gateway.bus, found.birth.job, 0, None
    if from_frame and found.tail is not None:
        media = await find.media(bus, name, found.birth_seq)
        entry = await find.frame(bus, name, found.birth_seq, found.tail.seq, from_frame)
        # Beyond the end there is still the end to hear.
        after_seq = entry.seq - 1 if entry is not None else found.tail.seq - found.is_ended
    run_on = found.is_ended or job.run_on is not False
    async with gateway.interest.listen(name, run_on=run_on, linger_s=job.linger_s) as listener:
        attachment = Attachment(bus.connection, bus.logs, name, after_seq=after_seq, max_buffer_bytes=MAX_BUFFER_BYTES)
        async with attachment:
            yield Sound(gateway, name, attachment, listener, Tape(from_frame, media))
