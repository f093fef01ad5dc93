"""A nats-server with the accounts and users of `ops/deploy/nats`, and clients that connect as one of them."""

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from ops.nats_server import find_binary, ready
from ops.system import dies_with_parent

CONFIGS = Path(__file__).parents[2] / "ops" / "deploy" / "nats"
#: And the prefix of the inboxes that each may listen on.
USERS = {
    "gateway": "_INBOX_gateway",
    "worker": "_INBOX_worker",
    "operator": "_INBOX",
    "acme": "_INBOX.acme",
    "globex": "_INBOX",
}
_READY_S = 10.0


class Guarded:
    """A running server that knows users."""

    def __init__(self, url: str, passwords: dict[str, str]) -> None:
        self.url, self._passwords = url, passwords

    def as_user(self, user: str) -> str:
        """The server's URL with the user's name and password."""
        return self.url.replace("nats://", f"nats://{user}:{self._passwords[user]}@")


class Visitor:
    """A client, and what the server refused it."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client, self.refused = client, refused


def environment(passwords: dict[str, str], store: Path) -> dict[str, str]:
    """What the configurations ask of their environment."""
    named = {f"NATS_{user.upper()}_PASSWORD": password for user, password in passwords.items()}
    return {**os.environ, **named, "NATS_STORE_DIR": str(store)}


@contextmanager
def guarded_server(config: Path = CONFIGS / "single.conf") -> Iterator[Guarded]:
    """Run `config` on any free port of this host, with a store of its own and fresh passwords."""
    passwords = {user: f"p{secrets.token_hex(8)}" for user in USERS}
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder:
        state = Path(folder)
        (state / "run").mkdir()
        binary = str(find_binary())
        own = ("-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir", str(state / "run"))
        with (state / "server.out").open("wb") as out:
            process = subprocess.Popen(
                [binary, "-c", str(config), *own],
                stdout=out,
                stderr=out,
                env=environment(passwords, state),
                preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509 - no other thread touches what it needs
            )
        try:
            deadline = time.monotonic() + _READY_S
            while (endpoints := ready(state, process.pid)) is None:
                told = (state / "server.out").read_text()
                assert process.poll() is None, f"nats-server exited {process.returncode}: {told}"
                assert time.monotonic() < deadline, f"nats-server not healthy after {_READY_S} s: {told}"
                time.sleep(0.01)
            yield Guarded(endpoints.nats, passwords)
        finally:
            process.terminate()
            process.wait(timeout=10)


async def visitor(server: Guarded, user: str) -> Visitor:
    """Connect as `user`. The caller closes `client`."""
    refused: list[str] = []

    async def trouble(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(server.as_user(user), inbox_prefix=USERS[user].encode(), error_cb=trouble)
    return Visitor(client, refused)
