"""The texts that wait to be played over one WebSocket, and the actions between them."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bus.errors import Invalid

#: Limits of one queue: characters of its segments, and segments with actions.
MAX_QUEUED_CHARS: Final = 256 << 10
MAX_QUEUED_ITEMS: Final = 4096

#: Runs once everything that was queued before it has been played.
Action = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Segment:
    """A text that is played as one job."""

    text: str

    @property
    def num_chars(self) -> int:
        """Characters that it takes of the queue's limit."""
        return len(self.text)


S = TypeVar("S", bound=Segment)


class SegmentQueue(Generic[S]):
    """First in, first out. Its limits hold as far as its user calls `check_room` before `put`."""

    def __init__(self) -> None:
        self._items: deque[S | Action] = deque()
        self._num_chars = 0

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def num_chars(self) -> int:
        """Characters of the segments in the queue."""
        return self._num_chars

    @property
    def num_segments(self) -> int:
        """Segments in the queue, actions apart."""
        return sum(isinstance(item, Segment) for item in self._items)

    @property
    def first_segment(self) -> S | None:
        """The segment that is played next; None if only actions are left, or nothing."""
        return next((item for item in self._items if isinstance(item, Segment)), None)

    def check_room(self, num_chars: int) -> None:
        """Raises Invalid if `num_chars` more characters, or one more item, exceed the queue's limits."""
        queued = num_chars + self._num_chars
        if queued > MAX_QUEUED_CHARS:
            raise Invalid(
                f"text: {queued} characters would be queued, the limit is {MAX_QUEUED_CHARS}; the message was ignored",
                "text",
            )
        if len(self._items) > MAX_QUEUED_ITEMS:
            raise Invalid(
                f"text: {len(self._items)} sentences are queued, the limit is {MAX_QUEUED_ITEMS}; the message was "
                "ignored",
                "text",
            )

    def put(self, item: S | Action) -> None:
        """Append a segment or an action."""
        if isinstance(item, Segment):
            self._num_chars += item.num_chars
        self._items.append(item)

    def pop(self) -> S | Action:
        """Remove and return the first item. Raises IndexError if there is none."""
        item = self._items.popleft()
        if isinstance(item, Segment):
            self._num_chars -= item.num_chars
        return item

    def clear(self) -> None:
        """Drop every item."""
        self._items.clear()
        self._num_chars = 0
