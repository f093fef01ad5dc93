"""A task of ACE-Step's is a group of jobs here. Its id encodes which, so that tasks are stored nowhere."""

import hashlib
import re
import secrets
import uuid
from collections.abc import Iterator
from typing import Final

import msgspec

from bus.errors import NotFound
from bus.params import short

#: Task ids contain positions in this tuple: append to it, and change nothing else.
FORMATS: Final = ("mp3", "wav", "flac", "opus", "aac")
MAX_BATCH: Final = 8
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Task(msgspec.Struct, frozen=True):
    """A group of jobs that differ in their seeds.

    `id` is a version 8 UUID whose last two digits are the number of its jobs, less 1, and their format.
    """

    id: str
    num_jobs: int
    format: str

    @property
    def jobs(self) -> list[str]:
        """The ids of its jobs."""
        return [f"{self.id}-{number}" for number in range(self.num_jobs)]

    def seeds(self) -> Iterator[int]:
        """Endless pseudo-random seeds that the id determines, so that a repeated request is the same request."""
        number = 0
        while True:
            digest = hashlib.sha256(f"{self.id}-{number}".encode()).digest()
            yield int.from_bytes(digest[:4], "big")
            number += 1


def new_task(num_jobs: int, codec: str, key: str = "") -> Task:
    """A task with a random id, or the one that an idempotency key stands for."""
    drawn = hashlib.sha256(key.encode()).digest()[:16] if key else secrets.token_bytes(16)
    value = int.from_bytes(drawn, "big")
    value = value & ~0xF000_0000_0000_0000_0000 | 0x8000_0000_0000_0000_0000
    value = value & ~0xC000_0000_0000_0000 | 0x8000_0000_0000_0000
    value = value & ~0xFF | (num_jobs - 1) << 4 | FORMATS.index(codec)
    return Task(str(uuid.UUID(int=value)), num_jobs, codec)


def task_of(task_id: str) -> Task:
    """The task of this id. Raises NotFound for text that cannot be the id of a task."""
    num_jobs = 0
    codec = len(FORMATS)
    if _UUID.fullmatch(task_id):
        num_jobs = int(task_id[-2], 16) + 1
        codec = int(task_id[-1], 16)
    if not 0 < num_jobs <= MAX_BATCH or codec >= len(FORMATS):
        raise NotFound(f"no task {short(task_id)!r}")
    return Task(task_id, num_jobs, FORMATS[codec])
