"""Phonemes as the ids that a Piper voice takes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Encoding(NamedTuple):
    """A sentence as the ids that a voice takes."""

    ids: Sequence[int]
    #: Index into `ids` of each symbol of the phonemes, known to the voice or not.
    places: Sequence[int]


def encode(symbols: str, ids: Mapping[str, Sequence[int]]) -> Encoding:
    """Between a beginning and an end, each known symbol with a pad behind it; unknown ones have no sound."""
    pad = ids["_"]
    encoded, places = [*ids["^"], *pad], []
    for symbol in symbols:
        places.append(len(encoded))
        if symbol in ids:
            encoded += [*ids[symbol], *pad]
    return Encoding([*encoded, *ids["$"]], places)
