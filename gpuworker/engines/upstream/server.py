"""One upstream server: how many requests it has, how a job waits for it, and its answers."""

import math
import threading
import time
from collections.abc import Generator
from typing import Final

from gpuworker.engine import AttemptFailed, EngineJob, Pause, Progress
from gpuworker.engines.upstream.errors import Cut, NotThere, refusal, tidy
from gpuworker.engines.upstream.exchange import MAX_TEXT_BYTES, Address, End, Exchange, Head, Request, Timeouts
from gpuworker.engines.upstream.health import Health
from gpuworker.engines.upstream.options import UpstreamOptions

Waits = Pause | Progress

#: A wait is looked at again after a fiftieth of its length so far, within these: it adds 2 % to what it waits for.
_SHORTEST_S: Final = 0.000_2
_LONGEST_S: Final = 0.02
#: A job that waits shows it so often; without that it would count as stalled.
_SHOW_S: Final = 5.0
#: Until a server that did not say when is tried again.
_AGAIN_S: Final = 0.5
#: Another Antiphon refuses a request that too many passed on, as they do in a circle.
_HOPS: Final = "Antiphon-Hops"
_BUSY: Final = frozenset({429, 503})


class Waiting:
    """The events of a job that waits, at most `limit_s` seconds."""

    def __init__(self, name: str, doing: str, limit_s: float) -> None:
        """`name` of the server, and the phase that the progress shows."""
        self._name = name
        self._doing = doing
        self._limit_s = limit_s
        self._began = self._shown = time.monotonic()

    def event(self) -> Waits:
        """The next event. Raises AttemptFailed once the limit has passed."""
        now = time.monotonic()
        waited_s = now - self._began
        if waited_s > self._limit_s:
            raise AttemptFailed(f"{self._name}: {self._doing} took longer than {self._limit_s:g} s")
        if now - self._shown >= _SHOW_S:
            self._shown = now
            return Progress(self._doing, round(waited_s, 1))
        return Pause(min(_LONGEST_S, max(_SHORTEST_S, waited_s / 50)))


class Reply:
    """An answer with status 200 whose body is still to come. `close` it."""

    def __init__(self, name: str, head: Head, exchange: Exchange) -> None:
        self.head = head
        self.close = exchange.close
        self._name = name
        self._exchange = exchange

    def read(self, silence_s: float) -> Generator[Waits | bytes, None, None]:
        """The body in pieces, and the waits for it. Raises Cut, AttemptFailed."""
        waiting = Waiting(self._name, "waiting for more of the answer", silence_s)
        while True:
            item = self._exchange.poll()
            if isinstance(item, bytes):
                yield item
                waiting = Waiting(self._name, "waiting for more of the answer", silence_s)
            elif isinstance(item, End):
                return
            else:
                yield waiting.event()


class Server:
    """Used by the device's thread alone, except `free_place`."""

    def __init__(self, name: str, options: UpstreamOptions) -> None:
        self.name = name
        self.address = Address.of(options.url)
        self.timeouts = Timeouts(options.connect_s, options.first_byte_s, options.silence_s)
        self.health = Health(name, self.address, options.health)
        self._options = options
        self._headers = {"User-Agent": "antiphon", "Accept": "*/*", "Connection": "close"}
        if options.key:
            self._headers["Authorization"] = f"Bearer {options.key}"
        self._places = threading.Semaphore(options.max_requests)

    def request(
        self, method: str, path: str, body: bytes = b"", media: str = "application/json", hops: int = 0
    ) -> Request:
        """A request with the headers of this server. `media`: of the body. `hops`: 0 for none."""
        headers = {**self._headers, "Content-Type": media} if body else self._headers
        if hops:
            headers = {**headers, _HOPS: str(hops)}
        return Request(method, path, body, headers)

    def take_place(self) -> Generator[Waits, None, None]:
        """Wait until the server has fewer than `max_requests`, and count one more. Raises AttemptFailed."""
        waiting = Waiting(self.name, "waiting for another request to end", self._options.busy_s)
        while not self._places.acquire(blocking=False):
            yield waiting.event()

    def free_place(self) -> None:
        """Count one request less. From any thread."""
        self._places.release()

    def open(
        self, job: EngineJob, request: Request, *, is_patient: bool = True, first_s: float | None = None
    ) -> Generator[Waits, None, Reply]:
        """Send `request`, again while the server is busy or not there; returns its answer with status 200.

        Without `is_patient` it is sent once. `first_s`: until the first of the answer; None: `first_byte_s`. Raises
        Rejected, AttemptFailed, UpstreamFailed.
        """
        timeouts = self.timeouts if first_s is None else self.timeouts._replace(first_s=first_s)
        busy_s = self._options.busy_s if is_patient else 0.0
        until = time.monotonic() + busy_s
        busy = Waiting(self.name, "waiting for a busy server", math.inf)
        while True:
            exchange = Exchange(self.address, request, timeouts)
            try:
                head = yield from self._head(exchange, timeouts.first_s)
                if head.status == 200:
                    return Reply(self.name, head, exchange)
                body = yield from self._body(exchange)
            except NotThere as error:
                exchange.close()
                self.health.suspect(str(error))
                why, again_s = f"is not there: {error}", _AGAIN_S
            except Cut as error:
                exchange.close()
                raise AttemptFailed(f"{self.name}: {error}", is_fault=False) from error
            except BaseException:
                exchange.close()
                raise
            else:
                if head.status not in _BUSY:
                    raise refusal(self.name, job, head.status, body)
                why, again_s = (
                    f"answers {head.status} {tidy(body[:2000].decode(errors='replace'))}",
                    _retry_after_s(head),
                )
            if time.monotonic() + again_s > until:
                raise AttemptFailed(f"{self.name} {why}, after {busy_s:g} s", is_fault=False)
            yield from _rest(again_s, busy)

    def get(self, job: EngineJob, request: Request, *, is_patient: bool = True) -> Generator[Waits, None, bytes]:
        """The whole body of a small answer. Raises as `open` does."""
        reply = yield from self.open(job, request, is_patient=is_patient, first_s=self._options.silence_s)
        try:
            body = b""
            for item in reply.read(self._options.silence_s):
                if not isinstance(item, bytes):
                    yield item
                elif len(body := body + item) > MAX_TEXT_BYTES:
                    raise AttemptFailed(f"{self.name} answers {request.path} with more than {MAX_TEXT_BYTES:,} bytes")
            return body
        except Cut as error:
            raise AttemptFailed(f"{self.name}: {error}", is_fault=False) from error
        finally:
            reply.close()

    def _head(self, exchange: Exchange, first_s: float) -> Generator[Waits, None, Head]:
        waiting = Waiting(self.name, "waiting for the first of the answer", first_s)
        while (item := exchange.poll()) is None:
            yield waiting.event()
        assert isinstance(item, Head)
        return item

    def _body(self, exchange: Exchange) -> Generator[Waits, None, bytes]:
        """The text of an error, cut off where it is long."""
        waiting, body = Waiting(self.name, "waiting for an error's text", self._options.silence_s), b""
        while len(body) < MAX_TEXT_BYTES and not isinstance(item := exchange.poll(), End):
            if isinstance(item, bytes):
                body += item
            else:
                yield waiting.event()
        exchange.close()
        return body


def _rest(seconds: float, busy: Waiting) -> Generator[Waits, None, None]:
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        event = busy.event()
        yield event if isinstance(event, Progress) else Pause(min(left_s, _SHOW_S))


def _retry_after_s(head: Head) -> float:
    """Seconds of `Retry-After`; those of a server that names none, or a date."""
    value = head.headers.get("retry-after", "")
    return max(0.05, float(value)) if value.isascii() and value.isdigit() and len(value) < 6 else _AGAIN_S
