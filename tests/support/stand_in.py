"""Stands in for `antiphon gateway` and `antiphon worker` in tests of their supervision.

The gateway reads its fleet from a file, at every request for its readiness.
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
    parser.add_argument("--fleet-file", type=Path)
    given, _ = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if given.role == "refuses":
        sys.exit(2)
    if given.role == "worker":
        signal.pause()
    fleet_file = given.fleet_file

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fleet = json.loads(fleet_file.read_bytes()) if fleet_file.exists() else {}
            missing = self.missing(fleet)
            body = json.dumps({"missing": missing, "failed": fleet.get("failed", {})}).encode()
            self.send_response(503 if missing else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def missing(self, fleet: dict[str, Any]) -> list[str]:
            query = parse_qs(urlsplit(self.path).query)
            models = {each["id"]: set(each["models"]) for each in fleet.get("workers", [])}
            return [
                f"{worker}: {each}"
                for worker in query["worker"]
                for each in set(query["model"]) - models.get(worker, set())
            ]

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    http.server.ThreadingHTTPServer(("127.0.0.1", given.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
