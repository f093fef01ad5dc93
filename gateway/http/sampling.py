"""Log lines of acts that one client can cause a thousand times a second: one line now and then, every act counted.

if (omitted := quiet.due(loop.time())) is not None:
    log.info("connection.refused", omitted=omitted)
else:
    log.debug("connection.refused")    # metrics count it below the log level too
"""

from typing import Final

#: Seconds between two lines.
_EVERY_S: Final = 1.0


class Sample:
    """Decides which acts of one kind are logged."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._omitted = 0

    def due(self, now_s: float) -> int | None:
        """The number of acts since the last logged one, if this one is to be logged; else None."""
        if now_s < self._next_at:
            self._omitted += 1
            return None
        omitted, self._omitted = self._omitted, 0
        self._next_at = now_s + _EVERY_S
        return omitted
