"""Inboxes: where an answer may be sent, and who stands behind it."""

#: Roles that ask questions of their own. An answer of ours that reached one of their inboxes could pass for another's.
_INBOXES_OF_OURS = ("_INBOX_gateway", "_INBOX_worker")


def is_outside_inbox(subject: str) -> bool:
    """Whether `subject` can be the inbox of somebody outside, so that a service may send its answer there.

    The server does not ask whether a caller may publish to the reply subject that it names. An answer to one of our own
    subjects, or of JetStream's, would be stored or obeyed with *our* rights.
    """
    if not (subject.isascii() and subject.isprintable()) or " " in subject:
        return False  # the server takes more than what we can write into a line
    first = subject.partition(".")[0]
    return is_of_another_account(subject) or (first.startswith("_INBOX") and first not in _INBOXES_OF_OURS)


def is_of_another_account(inbox: str) -> bool:
    """Whether the server stands between us and whoever reads `inbox`."""
    return inbox.startswith("_R_.")
