"""What a stream was answered with, kept while it goes out: an equal request gets the same bytes without an encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bus import wire
from bus.subjects import LogSubjects
from gateway.codecs import Format
from gateway.sound.renderings import Renderings

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

    def keep(self, name: LogSubjects, done: wire.Done, form: Format) -> None:
        """It is whole: answer others with it."""
        if self._parts is not None:
            self._room.keep(name, done, form, b"".join(self._parts))


class Recordings:
    def __init__(self, renderings: Renderings, max_bytes: int, max_s: float) -> None:
        """`max_bytes`: of `renderings`. `max_s`: of sound; what is longer is not kept."""
        self._renderings, self._left_bytes, self._max_s = renderings, max_bytes // _SHARE, max_s

    def kept(self, name: LogSubjects, done: wire.Done, form: Format) -> bytes | None:
        found = self._renderings.kept(_key(name, done, form))
        return None if found is None else found.data

    @contextmanager
    def recording(self, form: Format) -> Iterator[Recording]:
        """Of a format that takes no work nothing is kept."""
        recording = Recording(self)
        if not form.is_encoded:
            recording.drop()
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

    def keep(self, name: LogSubjects, done: wire.Done, form: Format, data: bytes) -> None:
        if done.seconds <= self._max_s:
            self._renderings.keep(_key(name, done, form), data)


def _key(name: LogSubjects, done: wire.Done, form: Format) -> tuple[object, ...]:
    # Not the key of a file: its encoder was told the length beforehand and may have written it into the head.
    return ("stream", name, done.crc32, done.frames, form)
