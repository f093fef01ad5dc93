"""`nats req`, `nats pub` and `nats sub` as a program, by the rules in `nats_cli`: what docs/nats.md shows was run with it.

Bodies go to stdout, all else to stderr, as with the command itself. Knows the flags of the documented commands only.
"""

import argparse
import asyncio
import os
import re
import sys

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.nats_cli import NoResponders, nats_pub_jetstream, nats_req, printed

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def seconds(text: str) -> float:
    """A Go duration of one unit."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m)", text)
    if match is None:
        raise argparse.ArgumentTypeError(text)
    return float(match[1]) * _UNITS[match[2]]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="nats")
    top.add_argument("--server", "-s", default=os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    top.add_argument("--inbox-prefix", default="_INBOX")
    commands = top.add_subparsers(dest="command", required=True)
    for name in ("req", "pub"):
        speak = commands.add_parser(name)
        speak.add_argument("subject")
        speak.add_argument("body", nargs="?", default="")
        speak.add_argument("-H", "--header", action="append", default=[])
        speak.add_argument("--timeout", type=seconds, default=5.0)
        speak.add_argument("--no-templates", action="store_true")
    req, pub = commands.choices["req"], commands.choices["pub"]
    req.add_argument("--raw", "-r", action="store_true")
    req.add_argument("--replies", type=int, default=1)
    req.add_argument("--wait-for-empty", action="store_true")
    req.add_argument("--reply-timeout", type=seconds, default=0.3)
    pub.add_argument("-J", "--jetstream", action="store_true")
    sub = commands.add_parser("sub")
    sub.add_argument("subject")
    sub.add_argument("--stream")
    sub.add_argument("--all", action="store_true")
    sub.add_argument("--count", type=int, required=True)
    sub.add_argument("--raw", "-r", action="store_true")
    return top


def log(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show(message: Msg, *, raw: bool, first: str) -> None:
    if not raw:
        headers = [f"{name}: {value}" for name, value in (message.headers or {}).items()]
        log("\n".join([first, *headers, ""]))
    sys.stdout.buffer.write(printed(message.data))
    sys.stdout.buffer.flush()


def headers_of(given: list[str]) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (each.partition(":") for each in given)}


async def req(client: Client, given: argparse.Namespace) -> None:
    if not given.raw:
        log(f'Sending request on "{given.subject}"')
    await nats_req(
        client,
        given.subject,
        given.body,
        headers_of(given.header) or None,
        wait_for_empty=given.wait_for_empty,
        replies=given.replies,
        timeout_s=given.timeout,
        reply_timeout_s=given.reply_timeout,
        each=lambda reply, rtt_s: show(reply, raw=given.raw, first=f"Received with rtt {rtt_s * 1000:.6f}ms"),
    )


async def pub(client: Client, given: argparse.Namespace) -> None:
    log(f'Published {len(given.body.encode())} bytes to "{given.subject}"')
    if given.jetstream:
        ack = await nats_pub_jetstream(
            client, given.subject, given.body, headers_of(given.header) or None, given.timeout
        )
        log(f"Stored in Stream: {ack['stream']} Sequence: {ack['seq']}")
    else:
        await client.publish(given.subject, given.body.encode(), headers=headers_of(given.header) or None)
        await client.flush()


async def sub(client: Client, given: argparse.Namespace) -> None:
    if given.stream:
        subscription = await client.jetstream().subscribe(given.subject, stream=given.stream)
    else:
        subscription = await client.subscribe(given.subject)
        log(f"Subscribing on {given.subject}")
    for number in range(given.count):
        message = await subscription.next_msg(timeout=60)
        show(message, raw=given.raw, first=f'[#{number + 1}] Received on "{message.subject}"')
    await subscription.unsubscribe()


async def main() -> int:
    given = parser().parse_args()
    client = await nats.connect(given.server, inbox_prefix=given.inbox_prefix.encode())
    try:
        await {"req": req, "pub": pub, "sub": sub}[given.command](client, given)
    except NoResponders as error:
        log(str(error))
    finally:
        await client.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
