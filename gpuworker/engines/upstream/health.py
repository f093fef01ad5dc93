"""Watches whether a server can take requests, in a thread of its own."""

import threading
from contextlib import closing
from typing import Final, NamedTuple

from gpuworker.engines.upstream.errors import Cut, NotThere, tidy
from gpuworker.engines.upstream.exchange import Address, Request, Timeouts, fetch

#: Of a ready server, which may log each check. A request that finds no server does not wait for the next one.
_EVERY_S: Final = 5.0
#: While the server is down or loading.
_SOON_S: Final = 0.2
_TIMEOUTS: Final = Timeouts(3.0, 3.0, 3.0)
#: A ready server under load may miss a check; this many in a row make it unready.
_PATIENCE: Final = 3


class _Missed(NamedTuple):
    """A check that failed. `is_certain`: one is enough."""

    why: str
    is_certain: bool


class Health:
    """Between `start` and `stop`, `reason` says why the server takes no request; "" if it takes them."""

    def __init__(self, name: str, address: Address, path: str) -> None:
        """`path`: answers 200 once the server is ready; "": it is ready if it accepts a connection."""
        self._name = name
        self._address = address
        self._path = path
        self.reason = f"{name} has not answered yet"
        self._num_missed = 0
        self._wake = threading.Event()
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch. Idempotent."""
        if self._thread is None:
            self._is_stopped = False
            self._thread = threading.Thread(target=self._run, name="health", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread within the time of one check. Idempotent."""
        self._is_stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUTS.connect_s + 2 * _TIMEOUTS.silence_s)
            self._thread = None

    def suspect(self, reason: str) -> None:
        """A request found no server: it is unready until the next check, which comes at once."""
        self.reason = f"{self._name}: {reason}"
        self._wake.set()

    def _run(self) -> None:
        while not self._is_stopped:
            self._check()
            self._wake.wait(_SOON_S if self.reason else _EVERY_S)
            self._wake.clear()

    def _check(self) -> None:
        missed = self._ask()
        if missed is None:
            self._num_missed = 0
            self.reason = ""
            return
        self._num_missed += 1
        if self.reason or missed.is_certain or self._num_missed >= _PATIENCE:
            self.reason = f"{self._name}: {missed.why}"

    def _ask(self) -> _Missed | None:
        """None: the server is ready."""
        try:
            if not self._path:
                with closing(self._address.connection(_TIMEOUTS.connect_s)) as connection:
                    connection.connect()
                return None
            status, body = fetch(self._address, Request("GET", self._path), _TIMEOUTS)
        except NotThere as error:
            return _Missed(str(error), is_certain=True)
        except (Cut, OSError) as error:
            return _Missed(str(error), is_certain=False)
        if status == 200:
            return None
        said = tidy(body[:2000].decode(errors="replace"))
        return _Missed(f"GET {self._path} answers {status} {said}", is_certain=True)
