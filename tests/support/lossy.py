"""A connection that loses live messages as a test says."""

from collections.abc import Callable

from bus.transport.connection import Connection, Subscription
from bus.transport.parser import Callback, Message


class LossyConnection:
    """A connection whose messages to one attachment a test may drop on the way: those that `passes` refuses."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.passes: Callable[[Message], bool] = lambda _: True
        self.is_clustered = connection.is_clustered
        self.state = connection.state

    def subscribe(self, subject: str, callback: Callback) -> Subscription:
        return self._connection.subscribe(subject, lambda message: callback(message) if self.passes(message) else None)
