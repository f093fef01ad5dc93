"""Reply subjects that callers name: whether a service of ours may publish its response there."""

from typing import Final

#: Roles that send requests of their own. A response of ours in one of their inboxes could be taken for another
#: service's response.
_OUR_INBOXES: Final = frozenset(f"_INBOX_{role}" for role in ("gateway", "worker", "operator", "doctor", "chaos"))


class CallerInboxes:
    """The inboxes of the callers of one deployment.

    The server does not check that a caller may publish to the reply subject that it names. A response on one of our own
    subjects, or of JetStream's, would be stored or executed with *our* permissions; one in the inbox of another tenant
    would be taken for the response to its own request.
    """

    def __init__(self, nats: str) -> None:
        """`nats`: the URL of the bus. With a user in it tenants have users too, and each its own prefix of inboxes.

        Without users every client may subscribe to every inbox, and no prefix protects one.
        """
        self._has_users = "@" in nats

    def prefix(self, tenant: str | None) -> str:
        """The beginning that a reply subject must have. `tenant`: the one in the subject of the request, if any."""
        return "_INBOX" if tenant is None or not self._has_users else f"_INBOX.{tenant}."

    def allow(self, inbox: str, tenant: str | None) -> bool:
        """Whether a service may publish its response to a request on `inbox`."""
        return is_outside_inbox(inbox) and (is_of_another_account(inbox) or inbox.startswith(self.prefix(tenant)))


def is_outside_inbox(subject: str) -> bool:
    """Whether `subject` can be an inbox of a client outside: no wildcard, and neither ours nor JetStream's."""
    if not (subject.isascii() and subject.isprintable()) or " " in subject:
        return False  # the server accepts subjects that we cannot write into a protocol line
    first, *rest = subject.split(".")
    if not all(rest) or "*" in rest or ">" in rest or not rest:
        return False
    return first == "_R_" or (first.startswith("_INBOX") and first not in _OUR_INBOXES)


def is_of_another_account(inbox: str) -> bool:
    """Whether `inbox` belongs to a client of another account: the server forwards its messages.

    No client can name such a subject as its reply: the server refuses the message.
    """
    return inbox.startswith("_R_.")
