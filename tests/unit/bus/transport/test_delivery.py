"""A message of JOBS, read without a server: its acknowledgement subject, its body, its way back."""

from typing import Any

import pytest

from bus.errors import Malformed
from bus.jobs.validate import read_job
from bus.subjects import JobSubject
from bus.transport.parser import Message
from bus.transport.pull import Delivery, stream_seq

SUBJECT = JobSubject("tone", "v1", "interactive", "public")


class Sent:
    """Stands for a connection."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def publish(self, subject: str, data: bytes = b"") -> None:
        self.bodies.append(data)


def delivery(reply: str, sent: Any = None) -> Delivery:
    return Delivery(sent or Sent(), Message("t.job", reply, None, b""))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.S.tone=v1=batch.3.17.5.1700000000.2",
        "$JS.ACK.hub.ACC.S.tone=v1=batch.3.17.5.1700000000.2",
        "$JS.ACK.hub.ACC.S.tone=v1=batch.3.17.5.1700000000.2.token",
    ],
)
def test_both_forms_of_an_acknowledgement_subject_are_read(reply: str) -> None:
    read = delivery(reply)
    assert (read.consumer, read.num_delivered, read.seq, read.num_pending) == ("tone=v1=batch", 3, 17, 2)
    assert stream_seq(reply) == 17


@pytest.mark.parametrize("reply", ["", "a.b.c", "$JS.ACK.S.c.x.17.5.1.2", "_INBOX.x"])
def test_what_no_consumer_delivered_is_malformed(reply: str) -> None:
    with pytest.raises(Malformed):
        delivery(reply)


@pytest.mark.parametrize("text", ["", "a.b", "$JS.ACK.S.c.1.x.5.1.2"])
def test_a_subject_that_acknowledges_nothing_has_no_sequence(text: str) -> None:
    assert stream_seq(text) is None


def test_rule_20_the_subject_is_the_authority_and_the_bodys_copies_may_be_absent() -> None:
    job = read_job(SUBJECT, 7, b'{"input":"x"}', 0.0)
    assert (job.id, job.model, job.version, job.lane, job.tenant) == ("q7", "tone", "v1", "interactive", "public")
    body = b'{"input":"x","model":"tone","version":"v1","lane":"interactive","tenant":"public"}'
    assert read_job(SUBJECT, 7, body, 0.0) == job


def test_a_message_that_finds_no_room_again_and_again_comes_later_and_later() -> None:
    sent = Sent()
    for delivered in (1, 2, 3, 7, 8, 100):
        delivery(f"$JS.ACK.S.c.{delivered}.17.5.1.2", sent).give_back_surplus()
    assert sent.bodies == [
        b"-NAK",
        b'-NAK {"delay":10000000}',
        b'-NAK {"delay":20000000}',
        b'-NAK {"delay":320000000}',
        b'-NAK {"delay":500000000}',
        b'-NAK {"delay":500000000}',
    ]
