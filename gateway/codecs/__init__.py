"""From a log's s16le PCM to what a client asked for. The only package that knows formats."""

from gateway.codecs.encoding import Encoding
from gateway.codecs.format import FORMATS, PCM, WAV, CodecName, Format, checked, format_named

__all__ = ["FORMATS", "PCM", "WAV", "CodecName", "Encoding", "Format", "checked", "format_named"]
