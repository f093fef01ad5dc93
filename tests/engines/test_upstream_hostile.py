"""An upstream that means harm, or speaks no HTTP: each answer is refused in its time, by one line of limited length."""

import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from gpuworker import registry
from gpuworker.engine import AttemptFailed, EngineJob, MemoryPolicy
from gpuworker.engines.upstream.errors import Cut, UpstreamFailed
from gpuworker.engines.upstream.exchange import Address, Request, Timeouts, fetch
from gpuworker.registry import ServedModel
from tests.support.upstream_engine import JOB, loaded, server, spoken
from tests.support.upstream_servers import Behaviour, Running, speech_pcm, wav_head

pytestmark = pytest.mark.slow

__all__ = ("server",)

LAST = EngineJob(id="j", input=JOB.input, attempt=2)
PCM = speech_pcm(JOB.input)
OK = b"HTTP/1.1 200 OK\r\n"


@dataclass
class Raw:
    """Sends the same bytes to every client, `pause_s` apart, until it leaves."""

    pieces: Iterable[bytes]
    pause_s: float = 0.0

    def serve(self, client: socket.socket) -> None:
        with client:
            try:
                data = b""
                while not data.startswith(b"GET") and not data.endswith(b"}"):
                    data += client.recv(65536)
                for piece in self.pieces:
                    client.sendall(piece)
                    time.sleep(self.pause_s)
            except OSError:
                return


@contextmanager
def listening(raw: Raw) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=raw.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def failure(raw: Raw, **options: object) -> str:
    """What the last attempt of a job fails with."""
    with listening(raw) as url:
        given = {"url": url, "health": "", "first_byte_s": 0.5, "silence_s": 0.4, "busy_s": 0.1, **options}
        engine = registry.make_model(ServedModel("qwen", "upstream", given))
        engine.load("cpu", MemoryPolicy())
        try:
            with pytest.raises((AttemptFailed, UpstreamFailed)) as failed:
                spoken(engine, LAST)
        finally:
            engine.unload()
    message = str(failed.value)
    assert len(message) < 400
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (Behaviour(headers={"Content-Encoding": "gzip"}), "the answer is encoded as 'gzip', which nobody requested"),
        (Behaviour(media="audio/wav"), "the answer is audio/wav, which is no PCM"),
        (Behaviour(media="audio/mpeg"), "the answer is audio/mpeg, which is no PCM"),
        (Behaviour(media="audio/pcm;rate=" + "9" * 5000), "sends PCM of rate '99999999999999999999'"),
        (Behaviour(media="text/" + "a" * 5000), "the answer is text/aaa"),
    ],
)
def test_what_is_no_pcm_is_not_played_as_noise(server: Running, behaviour: Behaviour, message: str) -> None:
    server.state.behaviours.append(behaviour)
    engine = loaded(server, response_format="pcm")
    with pytest.raises(UpstreamFailed) as failed:
        spoken(engine, LAST)
    assert message in str(failed.value)
    assert len(str(failed.value)) < 400
    engine.unload()


@pytest.mark.parametrize(
    "pieces",
    [
        [OK, b"Content-Type: text/event-stream\r\n\r\n", *[b": still here\n"] * 200],
        [OK, b"Content-Type: audio/wav\r\n\r\n", wav_head(0), *(bytes([byte]) for byte in PCM[:200])],
        [OK, b"Content-Type: audio/wav\r\n\r\n", *(bytes([byte]) for byte in wav_head(0) * 9)],
    ],
    ids=["comments", "samples", "head"],
)
def test_a_server_that_drips_bytes_does_not_keep_its_job(pieces: list[bytes]) -> None:
    assert "waiting for the first sound took longer than 0.5 s" in failure(Raw(pieces, 0.05))


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([OK, *[b"X-A: b\r\n"] * 200], "got more than 100 headers"),
        ([b"HTTP/1.1 \x1b[31m 99\r\n\r\n"], "BadStatusLine"),
        ([OK, b"Content-Length: " + b"9" * 4200 + b"\r\n\r\n", wav_head(len(PCM)), PCM], "too early"),
        ([OK, b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", wav_head(0), PCM], "cut short"),
        ([b"HTTP/1.1 500 \r\n\r\n" + "a\u202e\u2066\x1b[31m".encode() * 1000], "answered 500: a [31ma"),
        (itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), "waiting for the first of the answer took longer"),
    ],
)
def test_an_answer_that_is_no_http_fails_the_attempt_in_one_line(pieces: Iterable[bytes], message: str) -> None:
    assert message in failure(Raw(pieces))


def test_a_small_answer_that_drips_is_given_up() -> None:
    with listening(Raw(itertools.chain([OK], itertools.repeat(b"X")), 0.05)) as url:
        began = time.monotonic()
        with pytest.raises(Cut, match="nothing whole arrived in time"):
            fetch(Address.of(url), Request("GET", "/health"), Timeouts(0.2, 0.2, 0.2))
        assert time.monotonic() - began < 20
