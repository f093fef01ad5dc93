"""Messages on their way from the engine host to the worker, many in one system call."""

import socket
import time
from typing import Final

#: A message that is not urgent may wait this long, or for this many bytes, to leave with others.
_GATHER_S: Final = 0.001
_GATHER_BYTES: Final = 64 << 10


class Outbox:
    """Gathers encoded messages and writes them to the socket, in order. Used by the device's thread alone."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._messages: list[bytes] = []
        self._first_at = 0.0
        #: Bytes that wait to be written.
        self.num_bytes = 0
        #: The worker is gone, and every lease with it: further messages are dropped.
        self.is_closed = False

    def send(self, message: bytes, urgent: bool) -> None:
        """Write `message` with those that wait; one that is not urgent may wait for more."""
        if not self._messages:
            self._first_at = time.monotonic()
        self._messages.append(message)
        self.num_bytes += len(message)
        if urgent:
            self.flush()

    def is_due(self, now: float) -> bool:
        """Whether the waiting messages have waited long enough, or are enough."""
        return self.num_bytes > _GATHER_BYTES or now - self._first_at > _GATHER_S

    def flush(self) -> None:
        """Write all that wait; blocks while the worker does not read. Sets `is_closed` if the worker is gone."""
        if not self._messages:
            return
        data = b"".join(self._messages)
        self._messages.clear()
        self.num_bytes = 0
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.is_closed = True
