"""A task of ACE-Step's is some jobs of ours. Its id tells which, so nothing else has to be remembered of it."""

import hashlib
import re
import secrets
import uuid
from collections.abc import Iterator
from typing import Final

import msgspec

from bus.errors import NotFound
from bus.params import short

#: By their place in this list they stand in task ids: only add to it.
FORMATS: Final = ("mp3", "wav", "flac", "opus", "aac")
MAX_BATCH: Final = 8
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Task(msgspec.Struct, frozen=True):
    """`id` is a version 8 UUID, whose last two digits are how many jobs it has (less 1) and their format."""

    id: str
    count: int
    format: str

    @property
    def jobs(self) -> list[str]:
        return [f"{self.id}-{number}" for number in range(self.count)]

    def seeds(self) -> Iterator[int]:
        """Endless and as good as random, but the same for the same id: a request sent again is the same request."""
        number = 0
        while True:
            digest = hashlib.sha256(f"{self.id}-{number}".encode()).digest()
            yield int.from_bytes(digest[:4], "big")
            number += 1


def new_task(count: int, codec: str, key: str = "") -> Task:
    """A task of its own, or the one that an idempotency key stands for."""
    drawn = hashlib.sha256(key.encode()).digest()[:16] if key else secrets.token_bytes(16)
    value = int.from_bytes(drawn, "big")
    value = value & ~0xF000_0000_0000_0000_0000 | 0x8000_0000_0000_0000_0000
    value = value & ~0xC000_0000_0000_0000 | 0x8000_0000_0000_0000
    value = value & ~0xFF | (count - 1) << 4 | FORMATS.index(codec)
    return Task(str(uuid.UUID(int=value)), count, codec)


def task_of(task_id: str) -> Task:
    """Raises NotFound for what can be no task of ours."""
    count, codec = 0, len(FORMATS)
    if _UUID.fullmatch(task_id):
        count, codec = int(task_id[-2], 16) + 1, int(task_id[-1], 16)
    if not 0 < count <= MAX_BATCH or codec >= len(FORMATS):
        raise NotFound(f"no task {short(task_id)!r}")
    return Task(task_id, count, FORMATS[codec])
