"""A nats-server of one's own, to be killed, frozen and started again on its port with its store."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ops.local.nats_server import Endpoints, locked, prepare
from ops.local.system import port_is_free
from tests.support.nats import running
from tests.support.waiting import freeze


def steady_port() -> int:
    """A free port below those of outgoing connections: none of these can take it while its server is down."""
    return next(port for port in random.sample(range(20_000, 30_000), 1000) if port_is_free("127.0.0.1", port))


class Server:
    def __init__(self, state: Path, lock: int) -> None:
        self._state = state
        self._lock = lock
        self._port = steady_port()
        self._stack = ExitStack()
        self.start()

    def start(self) -> None:
        """Returns once it is healthy."""
        launch = prepare(self._state, self._lock, port=self._port)
        self._process, endpoints = self._stack.enter_context(running(launch))
        self.endpoints: Endpoints = endpoints
        self._port = endpoints.port

    @property
    def url(self) -> str:
        return self.endpoints.nats

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=20)

    def restart(self) -> None:
        self.kill()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        freeze(self._process.pid)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self._stack.close()


@contextmanager
def own_server(state: Path) -> Iterator[Server]:
    with locked(state) as lock:
        server = Server(state, lock)
        try:
            yield server
        finally:
            server.stop()
