"""Encodes the s16le PCM of a log into the format that a client requests. The only package that knows formats."""

from gateway.codecs.encoding import Encoding
from gateway.codecs.format import FORMATS, PCM, WAV, Format, checked, format_named

__all__ = ["FORMATS", "PCM", "WAV", "Encoding", "Format", "checked", "format_named"]
