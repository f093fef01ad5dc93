"""Private attributes of nats-py that bus/transport/nats_py.py uses: a new version that lacks one fails here, by name."""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from nats.aio import client
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.protocol.parser import Parser

from bus.transport.nats_py import Resubscribed
from tests.support.private_attributes import Private, missing, used

ROOT = Path(__file__).parents[4]
FILE = "bus/transport/nats_py.py"
PRIVATE = [
    Private(Client, "_attempt_reconnect", f"{FILE}: drops the socket before a reconnect"),
    Private(Client, "_connect_to_server", f"{FILE}: drops the socket of the attempt before"),
    Private(Client, "_process_connect_init", f"{FILE}: translates uvloop's error about a dead socket"),
    Private(Client, "_ps", f"{FILE}: replaces the parser"),
    Private(Client, "_send_ping", f"{FILE}: a flush whose waiter may be cancelled"),
    Private(Client, "_server_info", f"{FILE}: whether the server is in a cluster"),
    Private(Client, "_sid", f"{FILE}: numbers subscriptions"),
    Private(Client, "_subs", f"{FILE}: subscriptions that are repeated after a reconnect"),
    Private(Client, "_transport", f"{FILE}: writes and drains"),
    Private(TcpTransport, "_io_writer", f"{FILE}: aborts the socket"),
    Private(Parser, "parse", "bus/transport/parser.py: parses lines that are not messages"),
    Private(Parser, "reset", "bus/transport/parser.py: forgets incomplete input"),
]
HINT = "adapt bus/transport/nats_py.py, or run with own_parser = false"


def version() -> str:
    return str(client.__version__)


def test_nats_py_has_every_private_attribute_that_we_use() -> None:
    instances = {Client: Client(), TcpTransport: TcpTransport(), Parser: Parser()}
    assert missing("nats-py", version(), PRIVATE, instances) == [], HINT


def test_a_missing_attribute_is_named_with_its_use() -> None:
    gone = Private(Client, "_gone", "a/file.py: a reason")
    assert missing("nats-py", "9.9", [gone], {}) == [
        "nats-py 9.9 changed: attribute Client._gone, used in a/file.py: a reason"
    ]


def test_the_list_is_complete() -> None:
    listed = {private.name for private in PRIVATE if private.name.startswith("_")}
    overridden = {"_attempt_reconnect", "_connect_to_server", "_process_connect_init"}
    assert used(ROOT / FILE) | overridden == listed


@pytest.mark.parametrize("method", ["_attempt_reconnect", "_close"])
def test_a_subscription_of_ours_has_all_that_nats_py_reads_of_one(method: str) -> None:
    """It stands for nats-py's own Subscription in `Client._subs`."""
    source = textwrap.dedent(inspect.getsource(getattr(Client, method)))
    read = set(re.findall(r"\bsub\.(\w+)", source))
    assert read, f"nats-py {version()} changed: Client.{method} reads no subscription any more; {HINT}"
    lacking = {name for name in read if not hasattr(Resubscribed(1, "a", ""), name)}
    assert lacking == set(), f"nats-py {version()} changed: Client.{method} reads {lacking} of a subscription; {HINT}"


def test_no_other_method_of_nats_py_reads_subscriptions() -> None:
    """`subscribe`, `drain`, `_remove_sub` and `_process_msg` are not reached: we subscribe and dispatch ourselves."""
    readers = {
        node.name
        for node in ast.walk(ast.parse(inspect.getsource(client)))
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and "self._subs" in ast.unparse(node)
    }
    known = {"__init__", "subscribe", "drain", "_remove_sub", "_close", "_attempt_reconnect", "_process_msg"}
    assert readers == known, f"nats-py {version()} changed: other methods use Client._subs; {HINT}"


def test_the_public_link_uses_no_private_attribute() -> None:
    assert used(ROOT / "bus/transport/nats_py_public.py") == set()
