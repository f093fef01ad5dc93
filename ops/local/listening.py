"""Which program of ours listens on a port, found out by a request."""

import http.client
import json
import re
import socket
from contextlib import closing

_TIMEOUT_S = 1.0
_INFO_BYTES = 4096


def ours(host: str, port: int) -> str | None:
    """`the gateway` or `the nats-server` for one of ours, None for any other program. Takes two seconds at most."""
    if _is_gateway(host, port):
        return "the gateway"
    return "the nats-server" if _is_nats(host, port) else None


def _is_gateway(host: str, port: int) -> bool:
    """A gateway describes itself at a page that is open to everyone."""
    with closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)) as connection:
        try:
            connection.request("GET", "/openapi.json")
            document = json.loads(connection.getresponse().read())
            return bool(document["info"]["title"] == "Antiphon")
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return False


def _is_nats(host: str, port: int) -> bool:
    """A nats-server introduces itself at once; ours is called antiphon, or n1 and so on in a cluster."""
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as connection:
            greeting = connection.recv(_INFO_BYTES).decode(errors="replace")
        name = json.loads(greeting.partition("INFO ")[2].partition("\r\n")[0])["server_name"]
        return re.fullmatch(r"antiphon|n[1-9]", name) is not None
    except (OSError, ValueError, KeyError, TypeError):
        return False
