"""Reads the state of an engine from a log: the latest snapshot and the growing checkpoints since. Protocol rule 8."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from bus import wire
from bus.jobs.entry import MAX_CHAIN_BYTES, MAX_CHAIN_ENTRIES, Chain, Entry, Position
from bus.jobs.log import Logs
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.direct import Stored

log = logger(__name__)

#: A chain that cannot be read within this time counts as broken: to make its work again is exact too.
_READ_S: Final = 30.0


class EngineState(msgspec.Struct, frozen=True):
    """A position whose `checkpoint_seq` and `chain` were read, and their contents."""

    position: Position
    #: Data of the snapshot; None without.
    checkpoint: bytes | None = None
    #: Data of the chain, oldest first.
    increments: list[bytes] = []


class EngineStates:
    """Reads states for a worker that holds the lease: nothing is appended meanwhile, or it is fenced."""

    def __init__(self, logs: Logs) -> None:
        self._js = logs.js
        self._stream = logs.subjects.replies_stream

    async def read(self, key: JobKey, position: Position, keep_alive: Callable[[], None]) -> EngineState:
        """The state at `position`; without a chain of which an entry is gone, without all if the snapshot is.

        `keep_alive` is called now and then. Raises Malformed, Unreachable.
        """
        snapshot: bytes | None = None
        if position.checkpoint_seq:
            stored = await self._js.at(self._stream, position.checkpoint_seq)
            if stored is None:
                log.warning("job.checkpoint_gone", seq=position.checkpoint_seq)
                return EngineState(msgspec.structs.replace(position, checkpoint_seq=0, chain=Chain()))
            snapshot = wire.decode(wire.Checkpoint, stored.message.data).data
        if not position.chain.entries:
            return EngineState(position, snapshot)
        try:
            async with asyncio.timeout(_READ_S):
                increments = await self._chain(key, position.chain, keep_alive)
        except TimeoutError:
            increments = None
        if increments is None:
            # The next increment begins a chain of its own: behind these it would be one with a gap.
            log.warning("job.chain_broken", entries=position.chain.entries)
            return EngineState(msgspec.structs.replace(position, chain=Chain()), snapshot)
        return EngineState(position, snapshot, increments)

    async def _chain(self, key: JobKey, chain: Chain, keep_alive: Callable[[], None]) -> list[bytes] | None:
        """Data of all entries, oldest first; None if one is gone or does not fit to the next one."""
        if chain.entries > MAX_CHAIN_ENTRIES or chain.num_bytes > MAX_CHAIN_BYTES:
            return None
        found = list[bytes]()
        while chain.entries:
            seqs = chain.seqs
            for stored in await asyncio.gather(*map(self._entry, seqs)):
                before = None if stored is None or stored.message.subject != key.entries else Entry.stored(stored).chain
                if stored is None or before is None or before.after(stored.seq, len(stored.message.data)) != chain:
                    return None
                found.append(wire.decode(wire.Checkpoint, stored.message.data).data)
                chain = before
            keep_alive()
        return found[::-1]

    async def _entry(self, seq: int) -> Stored | None:
        """From any replica; one that is behind does not decide that an entry is gone."""
        return await self._js.direct.at(self._stream, seq) or await self._js.at(self._stream, seq)
