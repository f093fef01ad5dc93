"""One job message as JetStream delivered it. Acks are not tied to a delivery: only a lease holder may use one."""

from bus.connection import Connection
from bus.errors import Malformed
from bus.parser import Message


class Delivery:
    """A message of JOBS, and what its acknowledgement subject tells.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time ns>.<pending>`; a newer server puts the
    domain and the account after `ACK` and may append a token.
    """

    __slots__ = ("_connection", "ack_subject", "consumer", "num_delivered", "num_pending", "payload", "seq", "subject")

    def __init__(self, connection: Connection, message: Message) -> None:
        """Raises Malformed if `message` was not delivered by a consumer."""
        parts = message.reply.split(".")
        offset = 0 if len(parts) == 9 else 2
        try:
            self.consumer = parts[3 + offset]
            self.num_delivered = int(parts[4 + offset])
            self.seq = int(parts[5 + offset])
            self.num_pending = int(parts[8 + offset])
        except (IndexError, ValueError) as error:
            raise Malformed(f"not an acknowledgement subject: {message.reply[:200]!r}") from error
        self._connection, self.ack_subject = connection, message.reply
        self.subject, self.payload = message.subject, message.data

    def ack(self) -> None:
        """The message is dealt with. Not awaited: if the ack is lost, a redelivery finds the log's end."""
        self._connection.publish(self.ack_subject, b"+ACK")

    def give_back(self) -> None:
        """Deliver again, to anyone, now."""
        self._connection.publish(self.ack_subject, b"-NAK")


def give_back(connection: Connection, ack_subject: str) -> None:
    """NAK a delivery of somebody who cannot do it any more. Only for who replaced that one's lease."""
    connection.publish(ack_subject, b"-NAK")


def keep_alive(connection: Connection, ack_subject: str) -> None:
    """Restart the ack_wait countdown. Only while the lease is held and the engine makes progress."""
    connection.publish(ack_subject, b"+WPI")
