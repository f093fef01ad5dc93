"""In each of more than seventy languages all words of a difficult paragraph are spoken, in order, once."""

import re

import numpy as np
import pytest

from gpuworker.conformance.driving import Output, run
from gpuworker.engine import Completeness, EngineJob, TextLost
from gpuworker.engines.speech.engine import RATE_HZ, Speech
from tests.engines.corpus import EMOJI, LANGUAGES, SILENT

#: What is quieter is a pause.
_SILENT = 0.005
_WINDOW = RATE_HZ // 50
SIGNS = {*EMOJI, *"€."}


def said(speech: Speech, text: str, voice: str) -> Output:
    return run(speech, EngineJob(id="j", input=text, voice=voice))


def sounding_s(output: Output) -> float:
    """Seconds of sound, pauses apart."""
    pcm = np.abs(output.pcm[:, 0])
    windows = pcm[: len(pcm) // _WINDOW * _WINDOW].reshape(-1, _WINDOW).max(axis=1)
    return float((windows > _SILENT).sum()) * _WINDOW / RATE_HZ


def tokens(text: str) -> list[tuple[int, int]]:
    return [found.span() for found in re.finditer(r"\S+", text) if any(map(str.isalnum, found.group()))]


@pytest.mark.slow
@pytest.mark.parametrize("voice", LANGUAGES)
def test_every_word_of_the_paragraph_is_spoken_in_order_once(speech: Speech, voice: str) -> None:
    text = LANGUAGES[voice].paragraph
    assert len(text) > 1000
    output = said(speech, text, voice)
    assert output.done
    assert output.done.completeness is Completeness.WORDS
    skipped = {text[start:end] for start, end in output.done.skipped}
    assert all(set(token) <= SIGNS for token in skipped), "nothing but emoji and signs without a name"

    starts = [mark.start for mark in output.marks if mark.kind == "word"]
    assert starts == sorted(set(starts)), "each in its place, once"
    wanted = tokens(text)
    marked = [any(start <= place < end for place in starts) for start, end in wanted]
    assert sum(marked) > 0.75 * len(wanted), "but for words that are spoken in one breath"
    assert marked[-1]

    # The sound of the whole is that of its parts, which are too short for any limit of the library.
    parts = [text[wanted[n][0] : wanted[min(n + 6, len(wanted)) - 1][1]] for n in range(0, len(wanted), 6)]
    apart_s = sum(sounding_s(said(speech, part, voice)) for part in parts)
    assert 0.8 * apart_s < sounding_s(output) < 1.15 * apart_s


@pytest.mark.parametrize("voice", SILENT)
@pytest.mark.parametrize("around", ["{}", "Well, {} it is.", "ab{}"])
def test_where_the_voice_has_no_sound_for_a_word_the_job_fails(speech: Speech, voice: str, around: str) -> None:
    text = around.format(SILENT[voice])
    with pytest.raises(TextLost, match=re.escape(f"the voice {voice} cannot speak '{SILENT[voice]}'")):
        said(speech, text, voice)
