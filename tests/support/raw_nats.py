"""Messages with headers of any bytes, which no client library sends: nats-server passes them on."""

import asyncio
from urllib.parse import urlsplit


async def publish_raw(url: str, subject: str, head: bytes, body: bytes) -> None:
    """Publish one message with `head` as its header block, and wait until the server has taken it or refused it."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        line = f"HPUB {subject} {len(head)} {len(head) + len(body)}\r\n"
        writer.write(line.encode() + head + body + b"\r\nPING\r\n")
        async with asyncio.timeout(20):
            while not (answer := await reader.readline()).startswith((b"PONG", b"-ERR")):
                assert answer, "nats-server closed the connection"
    finally:
        writer.transport.abort()
