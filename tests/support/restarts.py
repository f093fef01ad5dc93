"""A nats-server of one's own, to be killed, frozen and started again on its port with its store."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ops.local.nats_server import Endpoints, locked, prepare
from tests.support.nats import running
from tests.support.waiting import freeze


class Server:
    def __init__(self, state: Path, lock: int) -> None:
        self._state = state
        self._lock = lock
        self._port = 0
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
