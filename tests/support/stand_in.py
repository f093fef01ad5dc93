"""Stands in for `antiphon gateway` and `antiphon worker` where a test is about who starts and stops whom.

The gateway reads what it shall tell of readiness and of the fleet from a file, at every request.
"""

import argparse
import http.server
import signal
import sys
from pathlib import Path


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
            body = told.read_bytes() if self.path == "/v1/fleet" else b"{}"
            self.send_response(200 if told.exists() else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    http.server.ThreadingHTTPServer(("127.0.0.1", asked.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
