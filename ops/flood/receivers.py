"""Webhook receivers that accept connections and never answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def hanging_receivers(num_addresses: int) -> AsyncIterator[list[str]]:
    """URLs of `num_addresses` loopback addresses of one server that reads requests and answers none of them."""
    writers: set[asyncio.StreamWriter] = set()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        while await reader.read(4096):
            pass
        writers.discard(writer)
        writer.close()

    server = await asyncio.start_server(hang, "0.0.0.0", 0)  # noqa: S104 - every address of 127.0.0.0/8
    port = server.sockets[0].getsockname()[1]
    try:
        yield [f"http://127.1.{number // 250}.{1 + number % 250}:{port}/" for number in range(num_addresses)]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
