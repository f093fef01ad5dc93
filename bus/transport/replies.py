"""Replies to our requests. All of them arrive on one wildcard subscription and are dispatched by their subject."""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Iterator
from typing import Any, Final

from bus.errors import Unreachable
from bus.transport.parser import Callback, Message

#: Roles that send requests of their own. A response of ours in one of their inboxes could be taken for another
#: service's response.
_OUR_INBOXES: Final = ("_INBOX_gateway", "_INBOX_worker")
#: A process that stood still may have the reply in its socket already: a timeout leaves this long for reading it.
_READ_S: Final = 0.01


class Replies:
    """Reply subjects in use, each with the future or the callback that receives its messages."""

    def __init__(self, inbox_prefix: str) -> None:
        """Reply subjects are `<inbox_prefix>.<random>.<number>`."""
        self._prefix = f"{inbox_prefix}.{secrets.token_hex(8)}."
        self._numbers = itertools.count()
        self._receivers: dict[str, Callback | asyncio.Future[Message]] = {}
        #: Futures that do not wait for a reply but fail with the connection all the same.
        self._failing: set[asyncio.Future[Any]] = set()

    @property
    def all_subjects(self) -> str:
        """Wildcard of all reply subjects made here."""
        return self._prefix + "*"

    @property
    def num_waiting(self) -> int:
        """Reply subjects and futures that are in use."""
        return len(self._receivers) + len(self._failing)

    def open(self, receiver: "Callback | asyncio.Future[Message]") -> str:
        """Return a new reply subject. Its messages go to `receiver`, the first one only if that is a future."""
        subject = f"{self._prefix}{next(self._numbers)}"
        self._receivers[subject] = receiver
        return subject

    def close(self, subject: str) -> None:
        """Drop later messages of a reply subject."""
        del self._receivers[subject]

    def deliver(self, message: Message) -> None:
        """Pass a message to the receiver of its subject; without one, drop it."""
        receiver = self._receivers.get(message.subject)
        if receiver is None:
            return
        if isinstance(receiver, asyncio.Future):
            if not receiver.done():
                receiver.set_result(message)
        else:
            receiver(message)

    def fail_all(self, reason: str) -> None:
        """Set Unreachable on every future that waits. Callbacks stay."""
        for receiver in [*self._receivers.values(), *self._failing]:
            if isinstance(receiver, asyncio.Future) and not receiver.done():
                receiver.set_exception(Unreachable(reason))

    @contextlib.contextmanager
    def inbox(self, callback: Callback) -> Iterator[str]:
        """Yield a reply subject whose messages go to `callback` until the block is left."""
        subject = self.open(callback)
        try:
            yield subject
        finally:
            self.close(subject)

    @contextlib.contextmanager
    def failing(self, future: "asyncio.Future[Any]") -> Iterator[None]:
        """Set Unreachable on `future` if the connection is lost within the block."""
        self._failing.add(future)
        try:
            yield
        finally:
            self._failing.discard(future)


def expire(future: "asyncio.Future[Message]", subject: str, timeout_s: float) -> None:
    """Set Unreachable on `future`, which waited `timeout_s` for `subject`, once the socket was read again."""
    asyncio.get_running_loop().call_later(_READ_S, _expire_unread, future, subject, timeout_s)


def _expire_unread(future: "asyncio.Future[Message]", subject: str, timeout_s: float) -> None:
    if not future.done():
        future.set_exception(Unreachable(f"no reply from {subject} within {timeout_s:g} s"))


def is_outside_inbox(subject: str) -> bool:
    """Whether `subject` can be an inbox of a client outside, so that a service may publish its response there.

    The server does not check that a caller may publish to the reply subject that it names. A response on one of our own
    subjects, or of JetStream's, would be stored or executed with *our* permissions.
    """
    if not (subject.isascii() and subject.isprintable()) or " " in subject:
        return False  # the server accepts subjects that we cannot write into a protocol line
    first = subject.partition(".")[0]
    return is_of_another_account(subject) or (first.startswith("_INBOX") and first not in _OUR_INBOXES)


def is_of_another_account(inbox: str) -> bool:
    """Whether `inbox` belongs to a client of another account: the server forwards its messages."""
    return inbox.startswith("_R_.")
