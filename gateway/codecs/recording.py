"""What a stream was answered with, kept while it goes out: an equal request gets the same bytes without an encoder."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from bus import wire
from bus.subjects import JobKey
from gateway.codecs import Format
from gateway.codecs.encoded_cache import Rendering, Renderings

#: Of what finished answers may fill, what those that are still going out may take besides.
_SHARE: Final = 2


class Recording:
    """One answer. What it holds counts against the room of all of them until its block ends."""

    def __init__(self, room: "Recordings") -> None:
        self._room = room
        self._parts: list[bytes] | None = []
        self.num_bytes = 0

    def add(self, data: bytes) -> None:
        """Keep `data` too; beyond the room all of it is given up."""
        if self._parts is None:
            return
        if self._room.take(len(data)):
            self._parts.append(data)
            self.num_bytes += len(data)
        else:
            self.drop()

    def drop(self) -> None:
        self._room.give_back(self.num_bytes)
        self._parts, self.num_bytes = None, 0

    def keep(self, name: JobKey, done: wire.Done, form: Format) -> None:
        """It is whole: answer others with it."""
        if done.seconds <= self._room.max_s:
            self.keep_as(_key(name, done, form))

    def keep_as(self, key: Hashable) -> None:
        """It is whole, and is what `key` names among the renderings."""
        if self._parts is not None:
            self._room.renderings.keep(key, b"".join(self._parts))


class Recordings:
    def __init__(self, renderings: Renderings, max_bytes: int, max_s: float) -> None:
        """`max_bytes`: of `renderings`. `max_s`: of sound; a stream of a job that is longer is not kept."""
        self.renderings, self.max_s = renderings, max_s
        self._left_bytes = max_bytes // _SHARE

    def kept(self, name: JobKey, done: wire.Done, form: Format) -> Rendering | None:
        return self.renderings.kept(_key(name, done, form))

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        recording = Recording(self)
        try:
            yield recording
        finally:
            recording.drop()

    def take(self, num_bytes: int) -> bool:
        if num_bytes > self._left_bytes:
            return False
        self._left_bytes -= num_bytes
        return True

    def give_back(self, num_bytes: int) -> None:
        self._left_bytes += num_bytes


def _key(name: JobKey, done: wire.Done, form: Format) -> tuple[object, ...]:
    # Not the key of a file: its encoder was told the length beforehand and may have written it into the head.
    return ("stream", name, done.crc32, done.frames, form)
