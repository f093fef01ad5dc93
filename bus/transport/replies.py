"""Reply subjects that callers name: whether a service of ours may publish its response there."""

from typing import Final

#: Roles that send requests of their own. A response of ours in one of their inboxes could be taken for another
#: service's response.
_OUR_INBOXES: Final = ("_INBOX_gateway", "_INBOX_worker")


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
