"""Small HTTP servers that follow the documented wire of speech and music servers, well or as badly as a test wants.

    python -m tests.support.upstream_servers --port P [--pace-s S] [--slow-start-s S]

Audio is the signal of `tone`, 24 kHz mono unless a test says otherwise, 0.08 s for each character of the text.
"""

import argparse
import base64
import contextlib
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.tone import tone_pcm

RATE_HZ = 24_000
S_PER_CHAR = 0.08
#: Of one chunk of an answer.
CHUNK_S = 0.1


def speech_pcm(text: str) -> bytes:
    """The s16le audio of a text."""
    return tone_pcm(len(text) * S_PER_CHAR)


def wav_head(num_bytes: int, rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    """A head of 44 bytes; 0xFFFFFFFF bytes: until the end."""
    riff = min(0xFFFF_FFFF, num_bytes + 36)
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form + b"data" + struct.pack("<I", num_bytes)


@dataclass
class Behaviour:
    """How the server answers one request for audio."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    media: str = ""
    #: Before the head.
    delay_s: float = 0.0
    rate_hz: int | None = None
    #: Share of the audio that is sent; the connection is then closed cleanly, or cut.
    share: float = 1.0
    is_cut: bool = False
    #: The number of bytes of audio, whatever the text; zeros.
    num_zeros: int | None = None
    #: The body has a Content-Length instead of chunks.
    has_length: bool = False


GOOD = Behaviour()


class State:
    """What a server was asked, and how it answers."""

    def __init__(self) -> None:
        #: Consumed by requests for audio, one each; then GOOD.
        self.behaviours: deque[Behaviour] = deque()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.health = (200, b'{"status":"healthy"}')
        self.pace_s = 0.0
        self.rate_hz = RATE_HZ
        #: Requests whose client left before the end.
        self.num_left = 0
        self.num_running = 0
        #: Uploaded voices: the parts of their forms, by name.
        self.voices: dict[str, dict[Any, Any]] = {}
        #: Bytes of audio.
        self.num_sent = 0
        #: Tasks of ACE-Step's API: their fields, and when they began.
        self.tasks: dict[str, tuple[dict[str, Any], float]] = {}
        self.task_s = 0.2
        self.task_error = ""
        self.music_rate_hz = 48_000
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """`/health`, `/v1/audio/speech`, `/v1/audio/voices`, and ACE-Step's three paths."""

    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, form: str, *args: Any) -> None:
        print(form % args, flush=True)

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/health":
            self._send(self.state.health[0], self.state.health[1])
        elif path.path == "/v1/audio":
            fields, _ = self.state.tasks[parse_qs(path.query)["path"][0].removeprefix("/tmp/").removesuffix(".wav")]
            rate_hz = self.state.music_rate_hz
            pcm = b"\x00\x10\x00\xf0" * int(fields["audio_duration"] * rate_hz)
            self._send(200, wav_head(len(pcm), rate_hz, 2) + pcm, "audio/wav")
        else:
            self._send(404, b'{"detail":"Not Found"}')

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        state = self.state
        if self.path == "/v1/audio/voices":
            self._take_voice(data)
            return
        fields = json.loads(data)
        state.headers.append({name.lower(): value for name, value in self.headers.items()})
        if (
            self.path == "/v1/audio/speech"
            and fields.get("voice", "").startswith("antiphon-")
            and fields["voice"] not in state.voices
        ):
            self._send(400, b'{"error":{"message":"no such voice","param":"voice"}}')
        elif self.path == "/v1/audio/speech":
            state.requests.append(fields)
            self._speak(fields)
        elif self.path == "/release_task":
            state.requests.append(fields)
            task = f"task-{len(state.tasks)}"
            state.tasks[task] = (fields, time.monotonic())
            self._envelope({"task_id": task, "status": "queued", "queue_position": 1})
        elif self.path == "/query_result":
            self._envelope([self._entry(task) for task in fields["task_id_list"]])
        else:
            self._send(404, b'{"detail":"Not Found"}')

    def _take_voice(self, data: bytes) -> None:
        """vLLM-Omni's upload of a voice."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = message_from_bytes(head + data)
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in form.walk()
        }
        name = bytes(parts["name"]).decode()  # type: ignore[arg-type]
        if name in self.state.voices:
            self._send(400, b'{"error":{"message":"Voice already exists","param":"name"}}')
            return
        self.state.voices[name] = parts
        self._send(200, json.dumps({"success": True, "voice": {"name": name}}).encode())

    def _entry(self, task: str) -> dict[str, Any]:
        state = self.state
        if task not in state.tasks:
            return {"task_id": task, "status": 0, "result": "[]", "progress_text": "another task's"}
        age_s = time.monotonic() - state.tasks[task][1]
        if age_s < state.task_s:
            result = {"file": "", "progress": round(age_s / state.task_s, 2), "stage": "denoise"}
            return {"task_id": task, "status": 0, "result": json.dumps([result])}
        if state.task_error:
            return {"task_id": task, "status": 2, "result": json.dumps([{"error": state.task_error}])}
        result = {"file": f"/v1/audio?path=%2Ftmp%2F{task}.wav", "progress": 1.0}
        return {"task_id": task, "status": 1, "result": json.dumps([result])}

    def _envelope(self, data: Any) -> None:
        self._send(200, json.dumps({"data": data, "code": 200, "error": None, "timestamp": 1, "extra": None}).encode())

    def _speak(self, fields: dict[str, Any]) -> None:
        state = self.state
        with state.lock:
            behaviour = state.behaviours.popleft() if state.behaviours else GOOD
            state.num_running += 1
        try:
            time.sleep(behaviour.delay_s)
            if behaviour.status != 200 or behaviour.body:
                self._send(behaviour.status, behaviour.body, behaviour.media or "application/json", behaviour.headers)
            else:
                self._stream(fields, behaviour)
        except (BrokenPipeError, ConnectionResetError):
            state.num_left += 1
            self.close_connection = True
        finally:
            state.num_running -= 1

    def _stream(self, fields: dict[str, Any], behaviour: Behaviour) -> None:
        pcm, rate_hz = speech_pcm(fields["input"]), behaviour.rate_hz or self.state.rate_hz
        if behaviour.num_zeros is not None:
            pcm = bytes(behaviour.num_zeros)
        pcm = pcm[: int(len(pcm) // 2 * behaviour.share) * 2]
        is_wav, is_sse = fields["response_format"] == "wav", fields.get("stream_format") == "sse"
        body = (wav_head(0xFFFF_FFFF, rate_hz) if is_wav else b"") + pcm
        self.send_response(200)
        media = "text/event-stream" if is_sse else "audio/wav" if is_wav else f"audio/pcm;rate={rate_hz}"
        self.send_header("Content-Type", behaviour.media or media)
        for name, value in behaviour.headers.items():
            self.send_header(name, value)
        if behaviour.has_length:
            self.send_header("Content-Length", str(len(body) + 1000 * behaviour.is_cut))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        size = int(CHUNK_S * RATE_HZ) * 2 + 1  # odd: a chunk ends within a sample
        for at in range(0, len(body), size):
            self._chunk(_delta(body[at : at + size]) if is_sse else body[at : at + size])
            time.sleep(self.state.pace_s)
        if behaviour.is_cut:
            self.close_connection = True
            return
        if is_sse:
            self._chunk(b'data: {"type":"speech.audio.done","usage":{}}\n\n')
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.state.num_sent += len(data)

    def _send(
        self, status: int, body: bytes, media: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": media, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _delta(data: bytes) -> bytes:
    event = {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode(), "response_format": "wav"}
    return b"event: speech.audio.delta\ndata: " + json.dumps(event).encode() + b"\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error here."""


@dataclass
class Running:
    """A server of this process."""

    state: State
    url: str


@contextmanager
def running() -> Iterator[Running]:
    """A server on a free port of loopback."""
    state = State()
    with _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Running(state, f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pace-s", type=float, default=0.0)
    parser.add_argument("--slow-start-s", type=float, default=0.0)
    arguments = parser.parse_args()
    print("loading the model", flush=True)
    time.sleep(arguments.slow_start_s)
    state = State()
    state.pace_s = arguments.pace_s
    with _Server(("127.0.0.1", arguments.port), type("Bound", (Handler,), {"state": state})) as server:
        print(f"listening on {arguments.port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
