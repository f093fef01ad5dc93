"""After an outage of the bus: until when nobody's silence counts.

Whoever lost the server may come back to it later than the one who asks for him. "Nobody answers" is true only of a
server that everybody has had time to find again.
"""

import asyncio
from typing import Final

from bus.transport.connection import Connection

#: After a reconnect, how long other processes get to come back.
_RETURN_S: Final = 5.0


async def others_are_back(connection: Connection) -> None:
    """Wait until they must be, if they ever will. At once if this connection was never lost, or long ago."""
    await asyncio.sleep(max(0.0, connection.back_at + _RETURN_S - asyncio.get_running_loop().time()))
