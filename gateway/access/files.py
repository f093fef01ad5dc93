"""Files of keys and certificates that change while a gateway runs."""

from pathlib import Path

from bus.settings import SettingsError


class WatchedFile:
    """One file, and its content at the last look.

    Bytes are compared, since two changes may have the same time, size and inode.
    """

    def __init__(self, flag: str, path: str) -> None:
        """`flag`: the setting that names the file, for errors."""
        self.path = Path(path)
        self.flag = flag
        #: The content, or the reason why it could not be read.
        self._seen: bytes | str = "never read"

    def changed(self) -> bytes | None:
        """The content if it is not that of the last look, else None. Blocks.

        Raises SettingsError for a file that cannot be read, once until it changes.
        """
        found: bytes | str
        try:
            found = self.path.read_bytes()
        except OSError as error:
            found = error.strerror or str(error)
        if found == self._seen:
            return None
        self._seen = found
        if isinstance(found, str):
            raise SettingsError(f"{self.flag}: cannot read {self.path}: {found}")
        return found
