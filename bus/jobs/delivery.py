"""One job message as JetStream delivered it. Acks are not tied to a delivery: only a lease holder may use one."""

from bus import retry
from bus.errors import Malformed
from bus.transport.connection import Connection
from bus.transport.parser import Message


class Delivery:
    """A message of JOBS, with the facts that its acknowledgement subject carries.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time ns>.<pending>`; a newer server puts the
    domain and the account after `ACK` and may append a token.
    """

    __slots__ = ("_connection", "ack_subject", "consumer", "num_delivered", "num_pending", "payload", "seq", "subject")

    def __init__(self, connection: Connection, message: Message) -> None:
        """Raises Malformed if `message` was not delivered by a consumer."""
        parts = _parts(message.reply)
        try:
            self.consumer = parts[0]
            #: Counts from 1.
            self.num_delivered = int(parts[1])
            #: Sequence in JOBS.
            self.seq = int(parts[2])
            #: Messages that wait behind this one in its consumer.
            self.num_pending = int(parts[5])
        except (IndexError, ValueError) as error:
            raise Malformed(f"not an acknowledgement subject: {message.reply[:200]!r}") from error
        self._connection = connection
        self.ack_subject = message.reply
        self.subject = message.subject
        self.payload = message.data

    def is_older_than(self, ack_subject: str) -> bool:
        """Whether the server has since delivered the same message again, as `ack_subject` shows.

        A worker that was frozen finds such deliveries in its socket when it wakes up. They give no right to anything:
        taking the lease with one would fence the worker that got the newer delivery.
        """
        parts = _parts(ack_subject)
        return len(parts) == 6 and int(parts[2]) == self.seq and int(parts[1]) > self.num_delivered

    def ack(self) -> None:
        """Take the message out of the queue. Not awaited: if the ack is lost, a redelivery finds the log's end."""
        ack(self._connection, self.ack_subject)

    def give_back(self) -> None:
        """NAK: deliver again, to any worker, now."""
        give_back(self._connection, self.ack_subject)

    def give_back_surplus(self) -> None:
        """NAK: deliver again to a worker with a free slot; the more often it came, the later.

        Without pauses, many pullers that fill up at the same time pass one message around until it looks like one that
        no worker can take.
        """
        num_returned = self.num_delivered - 1
        delay_s = retry.delay_s(num_returned - 1, 0.01, 0.5, None) if num_returned else 0.0
        body = b'-NAK {"delay":%d}' % int(delay_s * 1e9) if delay_s else b"-NAK"
        self._connection.publish(self.ack_subject, body)


def stream_seq(ack_subject: str) -> int | None:
    """Sequence in JOBS of the message that an acknowledgement subject is for; None if it is none."""
    parts = ack_subject.split(".")
    try:
        return int(parts[5 if len(parts) == 9 else 7])
    except (IndexError, ValueError):
        return None


def ack(connection: Connection, ack_subject: str) -> None:
    """Take a delivery's message out of the queue. For its holder, or a process that has read the end of its log."""
    connection.publish(ack_subject, b"+ACK")


def give_back(connection: Connection, ack_subject: str) -> None:
    """NAK a delivery in place of its holder. Only for the process that replaced the holder's lease."""
    connection.publish(ack_subject, b"-NAK")


def keep_alive(connection: Connection, ack_subject: str) -> None:
    """Restart the ack_wait countdown. Only while the lease is held and the engine makes progress."""
    connection.publish(ack_subject, b"+WPI")


def _parts(ack_subject: str) -> list[str]:
    """Consumer, delivered, stream seq, consumer seq, time, pending."""
    parts = ack_subject.split(".")
    offset = 3 if len(parts) == 9 else 5
    return parts[offset : offset + 6]
