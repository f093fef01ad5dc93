"""Stands in for `antiphon gateway` and `antiphon worker` where a test is about who starts and stops whom.

The gateway reads what the fleet shall be from a file, at every question whether it is ready.
"""

import argparse
import http.server
import json
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["gateway", "worker", "refuses"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--told", type=Path)
    asked, _ = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if asked.role == "refuses":
        sys.exit(2)
    if asked.role == "worker":
        signal.pause()
    told = asked.told

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told.read_bytes() if told.exists() else b"{}"
            self.send_response(200 if self.is_ready(json.loads(body)) else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def is_ready(self, fleet: dict[str, Any]) -> bool:
            asked = parse_qs(urlsplit(self.path).query)
            models = {each["id"]: set(each["models"]) for each in fleet.get("workers", [])}
            return bool(models) and all(models.get(name, set()) >= set(asked["model"]) for name in asked["worker"])

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    http.server.ThreadingHTTPServer(("127.0.0.1", asked.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
