"""Text as ElevenLabs' sockets collect it: when there is enough for a generation, and where it ends."""

from typing import Final

from bus import ssml
from gateway.dialects.elevenlabs.socket_messages import GenerationConfig
from gateway.sockets.splitter import Splitter

_DEFAULT_SCHEDULE: Final = (120, 160, 250, 290)
#: `try_trigger_generation` starts no shorter generation.
_MIN_TRIGGERED_CHARS: Final = 50


class TextBuffer:
    """Collects text until there is enough for a generation."""

    def __init__(self, *, auto: bool) -> None:
        """`auto`: every text starts a generation."""
        self._auto = auto
        self._schedule = list[float](_DEFAULT_SCHEDULE)
        self._num_generations = 0
        self._text = ""

    @property
    def num_held_chars(self) -> int:
        """Characters received and not yet returned."""
        return len(self._text)

    def apply(self, config: GenerationConfig | None) -> None:
        """Use the schedule of `config`, if it has one."""
        if config is not None and config.chunk_length_schedule is not None:
            self._schedule = config.chunk_length_schedule

    def add(self, text: str, *, trigger: bool, flush: bool) -> str:
        """The text of the generation to start now, or ""."""
        self._text += text
        if not flush and ssml.may_become_document(self._text, 0):
            return self._take(ssml.find_end(self._text, 0) or 0)
        enough = self._schedule[min(self._num_generations, len(self._schedule) - 1)]
        if flush or self._auto:
            return self.finish()
        if len(self._text) < (_MIN_TRIGGERED_CHARS if trigger else enough):
            return ""
        return self._take(_cut(self._text))

    def finish(self) -> str:
        """The remaining text, or ""."""
        return self._take(len(self._text))

    def _take(self, end: int) -> str:
        taken = self._text[:end].lstrip()
        self._text = self._text[end:]
        self._num_generations += bool(taken)
        return taken


def _cut(text: str) -> int:
    """Where to end a generation: after a sentence in the second half of `text`, else after a word, else at its end.

    Never within a tag: `<break time="1.0s" />` has blanks.
    """
    after_sentence = sum(map(len, Splitter("sentence", len(text)).feed(text)))
    if after_sentence > len(text) // 2:
        return after_sentence
    after_word = len(text) - len(text.rpartition(" ")[2])
    tag = text.rfind("<", 0, after_word)
    if tag > 0 and text.startswith("<break", tag) and ">" not in text[tag:after_word]:
        return tag
    return after_word or len(text)
