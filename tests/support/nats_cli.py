"""The `nats` command line's rules, followed by a plain core NATS client: nats-py's documented API and nothing of ours.

`nats req` waits `--timeout` for the first reply, then for each further one the mean time of the replies so far since the
request plus `--reply-timeout`; `--wait-for-empty` stops at the first empty reply, else `--replies` (default 1) counts.
What it prints of a reply: the body and blank lines after it; `nil body` for an empty one.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

_MOST_REPLIES = 32_767


@dataclass
class Answer:
    """The replies to a request, in their order."""

    replies: list[Msg] = field(default_factory=list)
    #: Seconds after the request, of each reply.
    rtts_s: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.replies)

    def header(self, number: int, name: str) -> str | None:
        return (self.replies[number].headers or {}).get(name)

    def json(self, number: int) -> dict[str, Any]:
        return dict(json.loads(self.replies[number].data))

    def of_kind(self, kind: str) -> list[Msg]:
        """Replies that are entries of this kind."""
        return [reply for reply in self.replies if (reply.headers or {}).get("Antiphon-Kind") == kind]

    @property
    def pcm(self) -> bytes:
        return b"".join(block.data for block in self.of_kind("block"))

    def printed(self) -> bytes:
        """Stdout of `nats req --raw`."""
        return b"".join(printed(reply.data) for reply in self.replies)


class NoResponders(Exception):
    """As the command says it."""


def printed(body: bytes) -> bytes:
    """The lines that the command prints for one reply."""
    if not body:
        return b"nil body\n\n\n"
    return body + b"\n" if body.endswith(b"\n") else body + b"\n\n\n"


async def nats_req(
    client: Client,
    subject: str,
    body: bytes | str,
    headers: dict[str, str] | None = None,
    *,
    wait_for_empty: bool = False,
    replies: int = 1,
    timeout_s: float = 5.0,
    reply_timeout_s: float = 0.3,
    each: Callable[[Msg, float], object] = lambda _, __: None,
) -> Answer:
    """`nats req SUBJECT BODY -H … [--wait-for-empty] [--replies N] [--timeout …] [--reply-timeout …]`.

    `each` is called with every reply, and its seconds since the request, as it comes. Raises NoResponders.
    """
    answer = Answer()
    most = _MOST_REPLIES if wait_for_empty else replies
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    data = body.encode() if isinstance(body, str) else body
    started = time.monotonic()
    await client.publish(subject, data, reply=inbox, headers=headers)
    wait_s = timeout_s
    try:
        while len(answer) < most:
            reply = await subscription.next_msg(timeout=wait_s)
            if (reply.headers or {}).get("Status") == "503" and not reply.data:
                raise NoResponders("No responders are available")
            answer.replies.append(reply)
            answer.rtts_s.append(time.monotonic() - started)
            each(reply, answer.rtts_s[-1])
            if wait_for_empty and not reply.data:
                break
            wait_s = sum(answer.rtts_s) / len(answer) + reply_timeout_s
    except TimeoutError:
        return answer
    finally:
        await subscription.unsubscribe()
        await client.flush()
    return answer


async def nats_pub_jetstream(
    client: Client, subject: str, body: str, headers: dict[str, str] | None = None, timeout_s: float = 5.0
) -> dict[str, Any]:
    """`nats pub -J SUBJECT BODY`: the stream's acknowledgement."""
    answer = await client.request(subject, body.encode(), timeout=timeout_s, headers=headers)
    return dict(json.loads(answer.data))
