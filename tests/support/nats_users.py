"""A nats-server with the accounts and users of `ops/deploy/nats`, and clients that connect as one of them."""

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nats
from nats.aio.client import Client

from bus.process import die_with_parent
from ops.local.nats_server import find_binary, ready
from tests.support.fleets import small_bus
from tests.support.programs import Fleet, fleet_of

CONFIGS = Path(__file__).parents[2] / "ops" / "deploy" / "nats"
#: And the prefix of the inboxes that each may listen on.
USERS = {
    "gateway": "_INBOX_gateway",
    "worker": "_INBOX_worker",
    "operator": "_INBOX",
    "acme": "_INBOX.acme",
    "globex": "_INBOX",
}
TENANTS = ("acme", "globex")
_READY_S = 30.0

#: Who, what (`pub` or `sub`), and the subject that it may not.
FORBIDDEN: list[tuple[str, str, str]] = [
    # Speaking for another tenant, or for all
    *((tenant, "pub", "antiphon.submit") for tenant in TENANTS),
    *((tenant, "pub", "antiphon.submit.other") for tenant in TENANTS),
    *((tenant, "pub", "antiphon.cancel.other.j") for tenant in TENANTS),
    *((tenant, "pub", "antiphon.job.tone.v1.interactive.other") for tenant in TENANTS),
    ("acme", "pub", "antiphon.job.tone.v1.interactive.acme"),
    # API keys: an operator's alone
    *((user, "pub", "$KV.ANTIPHON_KEYS.0123456789ab") for user in ("gateway", "worker", *TENANTS)),
    *((user, "sub", "$KV.ANTIPHON_KEYS.*") for user in ("gateway", "worker", *TENANTS)),
    *((user, "pub", "antiphon.key.0123456789ab") for user in ("gateway", "worker", *TENANTS)),
    *((user, "sub", "antiphon.key.*") for user in ("worker", *TENANTS)),
    *((user, "pub", "$JS.API.STREAM.INFO.KV_ANTIPHON_KEYS") for user in ("worker", *TENANTS)),
    *((user, "pub", "$JS.API.DIRECT.GET.KV_ANTIPHON_KEYS") for user in ("worker", *TENANTS)),
    *(("gateway", "pub", f"$JS.API.STREAM.{act}.KV_ANTIPHON_KEYS") for act in ("CREATE", "UPDATE", "PURGE", "DELETE")),
    # The usage of limits: only gateways write it, and no client deletes it
    *((user, act, "antiphon.gateway.0123456789ab.usage") for user in ("worker", *TENANTS) for act in ("pub", "sub")),
    *((user, "pub", "antiphon.usage.2030-01-01.key-0123456789ab") for user in ("worker", *TENANTS)),
    *(("gateway", "pub", f"$JS.API.STREAM.{act}.ANTIPHON_USAGE") for act in ("PURGE", "DELETE", "MSG.DELETE")),
    # Revoked links, and the secrets that links are signed with
    *((user, "pub", "antiphon.link.acme") for user in ("worker", *TENANTS)),
    *((user, "pub", "$KV.ANTIPHON_KEYS.links") for user in ("gateway", "worker", *TENANTS)),
    *((user, "pub", "$JS.API.STREAM.MSG.GET.KV_ANTIPHON_KEYS") for user in ("worker", *TENANTS)),
    *(("gateway", "pub", f"$JS.API.STREAM.{act}.ANTIPHON_LINKS") for act in ("PURGE", "DELETE")),
    # Webhooks: the gateways' alone, and with them the secrets that sign
    *((user, "pub", "antiphon.hook.public.j") for user in ("worker", *TENANTS)),
    *((user, "sub", "antiphon.hook.>") for user in ("worker", *TENANTS)),
    *((user, "pub", "$JS.API.CONSUMER.MSG.NEXT.ANTIPHON_HOOKS.gateways") for user in ("worker", *TENANTS)),
    *(("gateway", "pub", f"$JS.API.STREAM.{act}.ANTIPHON_HOOKS") for act in ("PURGE", "DELETE")),
    # Blobs: gateways write them, workers read them, and no tenant has another's
    *((user, "pub", f"$O.ANTIPHON_BLOBS.{kind}.x") for user in ("worker", *TENANTS) for kind in "CM"),
    *((user, "pub", "$JS.API.STREAM.PURGE.OBJ_ANTIPHON_BLOBS") for user in ("worker", *TENANTS)),
    *(
        (tenant, "pub", f"$JS.API.{act}.OBJ_ANTIPHON_BLOBS")
        for tenant in TENANTS
        for act in ("DIRECT.GET", "STREAM.MSG.GET")
    ),
    ("gateway", "pub", "$JS.API.STREAM.DELETE.OBJ_ANTIPHON_BLOBS"),
    # Routes: an operator's alone to write, and the gateways' to read
    *((user, "pub", "$KV.ANTIPHON_ROUTES.speech") for user in ("gateway", "worker", *TENANTS)),
    *((user, "pub", "antiphon.route.speech") for user in ("gateway", "worker", *TENANTS)),
    *((user, "sub", "antiphon.route.>") for user in ("worker", *TENANTS)),
    *((user, "pub", "$JS.API.DIRECT.GET.KV_ANTIPHON_ROUTES") for user in ("worker", *TENANTS)),
    *(
        ("gateway", "pub", f"$JS.API.STREAM.{act}.KV_ANTIPHON_ROUTES")
        for act in ("CREATE", "UPDATE", "PURGE", "DELETE")
    ),
    # Installed voices: an operator's alone to write
    *((user, "pub", "$KV.ANTIPHON_VOICES.piper.v.x") for user in ("gateway", "worker", *TENANTS)),
    *((user, "pub", "antiphon.voice.piper.v.x") for user in ("gateway", "worker", *TENANTS)),
    *(
        (user, "pub", f"$JS.API.STREAM.{act}.KV_ANTIPHON_VOICES")
        for user in ("gateway", "worker")
        for act in ("CREATE", "UPDATE", "PURGE", "DELETE")
    ),
    *((tenant, "pub", "$JS.API.DIRECT.GET.KV_ANTIPHON_VOICES") for tenant in TENANTS),
    # Speaking as a gateway, a worker, the server
    *((tenant, "pub", f"antiphon.live.{tenant}.j") for tenant in TENANTS),
    *((tenant, "pub", f"antiphon.reply.{tenant}.j.{kind}") for tenant in TENANTS for kind in ("c", "job", "lease")),
    *((tenant, "pub", f"antiphon.listen.{tenant}.j") for tenant in TENANTS),
    *(
        (tenant, "pub", f"antiphon.worker.w1.{word}")
        for tenant in TENANTS
        for word in ("hb", "ping", "stop", "drain", "gone")
    ),
    *((tenant, "pub", "antiphon.dead.public.j") for tenant in TENANTS),
    *((tenant, "pub", "_INBOX_gateway.x") for tenant in TENANTS),
    *((tenant, "pub", "_INBOX_worker.x") for tenant in TENANTS),
    # Reading what is not its own
    *((tenant, "sub", "antiphon.live.*.*") for tenant in TENANTS),
    *((tenant, "sub", "antiphon.live.other.j") for tenant in TENANTS),
    *((tenant, "sub", ">") for tenant in TENANTS),
    *((tenant, "sub", "antiphon.submit.*") for tenant in TENANTS),
    *((tenant, "sub", "antiphon.job.>") for tenant in TENANTS),
    *((tenant, "sub", f"antiphon.listen.{tenant}.j") for tenant in TENANTS),
    *((tenant, "sub", "antiphon.worker.*.hb") for tenant in TENANTS),
    ("acme", "sub", "_INBOX.>"),
    ("acme", "sub", "_INBOX.other.>"),
    *((tenant, "sub", "_INBOX_gateway.>") for tenant in TENANTS),
    # JetStream
    *((tenant, "pub", "$JS.API.DIRECT.GET.ANTIPHON_REPLIES") for tenant in TENANTS),
    *((tenant, "pub", "$JS.API.DIRECT.GET.ANTIPHON_REPLIES.antiphon.reply.other.j.c") for tenant in TENANTS),
    *((tenant, "pub", "$JS.API.STREAM.MSG.GET.ANTIPHON_REPLIES") for tenant in TENANTS),
    *((tenant, "pub", "$JS.API.STREAM.INFO.ANTIPHON_REPLIES") for tenant in TENANTS),
    *((tenant, "pub", "$JS.API.STREAM.PURGE.ANTIPHON_REPLIES") for tenant in TENANTS),
    *((tenant, "pub", f"$JS.API.CONSUMER.CREATE.ANTIPHON_REPLIES.x.antiphon.reply.{tenant}.j.c") for tenant in TENANTS),
    *((tenant, "pub", "$JS.API.CONSUMER.MSG.NEXT.ANTIPHON_JOBS.tone=v1=interactive") for tenant in TENANTS),
    *((tenant, "pub", "$JS.ACK.ANTIPHON_JOBS.tone=v1=interactive.1.1.1.1.0") for tenant in TENANTS),
    # A worker generates audio; it accepts no job, answers no request of another worker and changes no stream
    ("worker", "pub", "antiphon.job.tone.v1.interactive.public"),
    ("worker", "pub", "antiphon.submit"),
    ("worker", "pub", "antiphon.cancel.public.j"),
    ("worker", "pub", "antiphon.live.public.j"),
    ("worker", "pub", "antiphon.worker.w2.drain"),
    ("worker", "pub", "_INBOX_gateway.x"),
    ("worker", "pub", "_INBOX.x"),
    ("worker", "sub", "antiphon.live.*.*"),
    ("worker", "sub", "antiphon.submit"),
    ("worker", "sub", "antiphon.listen.*.*"),
    ("worker", "sub", "_INBOX_gateway.>"),
    ("worker", "sub", "antiphon.reply.>"),
    ("worker", "pub", "$JS.API.STREAM.UPDATE.ANTIPHON_REPLIES"),
    ("worker", "pub", "$JS.API.STREAM.DELETE.ANTIPHON_REPLIES"),
    ("worker", "pub", "$JS.API.STREAM.PURGE.ANTIPHON_JOBS"),
    ("worker", "pub", "$JS.API.STREAM.MSG.DELETE.ANTIPHON_REPLIES"),
    ("worker", "pub", "$JS.API.DIRECT.GET.ANTIPHON_REPLIES"),
    ("worker", "pub", "$JS.API.CONSUMER.CREATE.ANTIPHON_REPLIES.x.antiphon.reply.>"),
    ("worker", "pub", "$JS.API.CONSUMER.DELETE.ANTIPHON_JOBS.tone=v1=interactive"),
    # A gateway accepts and listens; it takes no jobs and is no worker
    ("gateway", "pub", "antiphon.live.public.j"),
    ("gateway", "pub", "antiphon.worker.w1.hb"),
    ("gateway", "pub", "antiphon.worker.w1.drain"),
    ("worker", "pub", "antiphon.worker.w1.gone"),
    ("gateway", "pub", "antiphon.submit.public"),
    ("gateway", "sub", "antiphon.worker.*.ping"),
    ("gateway", "sub", "_INBOX_worker.>"),
    ("gateway", "sub", "antiphon.submit"),
    ("gateway", "pub", "$JS.API.CONSUMER.MSG.NEXT.ANTIPHON_JOBS.tone=v1=interactive"),
    ("gateway", "pub", "$JS.API.CONSUMER.CREATE.ANTIPHON_JOBS.x.antiphon.job.>"),
    ("gateway", "pub", "$JS.API.STREAM.DELETE.ANTIPHON_JOBS"),
    ("gateway", "pub", "$JS.API.STREAM.PURGE.ANTIPHON_JOBS"),
]


class Guarded:
    """A running server that knows users."""

    def __init__(self, url: str, passwords: dict[str, str]) -> None:
        self.url = url
        self._passwords = passwords

    def as_user(self, user: str) -> str:
        """The server's URL with the user's name and password."""
        return self.url.replace("nats://", f"nats://{user}:{self._passwords[user]}@")


class Visitor:
    """A client, and what the server refused it."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client = client
        self.refused = refused


def environment(passwords: dict[str, str], store: Path) -> dict[str, str]:
    """The variables that the configurations read."""
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
                # No other thread touches what it needs.
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509
            )
        try:
            deadline = time.monotonic() + _READY_S
            while (endpoints := ready(state, process.pid)) is None:
                output = (state / "server.out").read_text()
                assert process.poll() is None, f"nats-server exited {process.returncode}: {output}"
                assert time.monotonic() < deadline, f"nats-server not healthy after {_READY_S} s: {output}"
                time.sleep(0.01)
            yield Guarded(endpoints.nats, passwords)
        finally:
            process.terminate()
            process.wait(timeout=30)


@contextmanager
def guarded_fleets() -> Iterator[tuple[Guarded, Fleet, Fleet]]:
    """A guarded server; a fleet for gateways and one for workers, each with the rights of its user."""
    with guarded_server() as server:
        users = [small_bus(server.as_user(user), "antiphon", ack_wait_s=30.0) for user in ("gateway", "worker")]
        with fleet_of(users[0]) as gateways, fleet_of(users[1]) as workers:
            yield server, gateways, workers


async def visitor(server: Guarded, user: str) -> Visitor:
    """Connect as `user`. The caller closes `client`."""
    refused: list[str] = []

    async def trouble(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(server.as_user(user), inbox_prefix=USERS[user].encode(), error_cb=trouble)
    return Visitor(client, refused)
