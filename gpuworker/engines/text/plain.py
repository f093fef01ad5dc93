"""The parts of a plain text: its sentences, without marks of Markdown and with its pauses if the job has them."""

from collections.abc import Iterator

from bus import ssml
from bus.sentences import sentences
from gpuworker.engine import EngineJob
from gpuworker.engines.text.markdown import without_marks
from gpuworker.engines.text.parts import Part


def plain_parts(job: EngineJob, language: str) -> Iterator[Part]:
    """The parts of a valid job whose input is not SSML, in order. `language`: the BCP 47 tag of its voice."""
    whole = Part(job.input, range(len(job.input)), 0)
    if job.params["text"] == "markdown":
        whole = without_marks(whole)
    if not job.params["breaks"]:
        yield from _sentences(whole, language)
        return
    start = 0
    for tag in ssml.BREAK.finditer(whole.text):
        milliseconds = ssml.break_ms(tag)
        if milliseconds is None:
            continue
        *before, last = [*_sentences(whole.stretch(start, tag.start()), language)] or [whole.stretch(start, start)]
        yield from before
        yield last._replace(pause_ms=milliseconds)
        start = tag.end()
    yield from _sentences(whole.stretch(start, len(whole.text)), language)


def _sentences(part: Part, language: str) -> Iterator[Part]:
    start = 0
    for sentence in sentences(part.text, language=language):
        yield part.stretch(start, start + len(sentence))
        start += len(sentence)
