"""Frames of a WebSocket on their way to aiohttp's reader, which takes unmasked ones of a client too."""

from typing import Final, Protocol

#: Bits that no extension of ours uses: the reader closes with 1002, as RFC 6455 (5.1) demands for an unmasked frame.
_REFUSED: Final = b"\xf0\x80"
_IS_MASKED: Final = 0x80
_MASK_BYTES: Final = 4
#: Bytes of the length that follow the first two, by what stands for it in them.
_LENGTH_BYTES: Final = {126: 2, 127: 8}


class Reader(Protocol):
    """aiohttp's reader, as the protocol uses it."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; whether the connection must end, and the bytes that are left then."""

    def feed_eof(self) -> None:
        """The client has hung up."""


class MaskedFrames:
    """Passes on the frames of a client, and for an unmasked one a frame that the reader refuses."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        #: Of the frame that has begun.
        self._num_left = 0
        #: A frame's first bytes, until its length is known.
        self._begun = b""

    def feed_eof(self) -> None:
        """Pass it on."""
        self._reader.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass on `data`, up to the first frame that is refused."""
        if self._begun:
            data, self._begun = self._begun + data, b""
        place, end = self._num_left, len(data)
        while place < end:
            if end - place < 2:
                break
            second = data[place + 1]
            if not second & _IS_MASKED:
                return self._reader.feed_data(data[:place] + _REFUSED)
            size = second & ~_IS_MASKED
            more = _LENGTH_BYTES.get(size, 0)
            if end - place < 2 + more:
                break
            if more:
                size = int.from_bytes(data[place + 2 : place + 2 + more])
            place += 2 + more + _MASK_BYTES + size
        if place < end:
            self._begun = data[place:]
            data = data[:place]
        self._num_left = max(0, place - end)
        return self._reader.feed_data(data)
