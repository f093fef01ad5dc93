"""What strangers send is spoken whole, by both engines: every word has a sound, or the job fails and names it."""

import random
import re
from collections.abc import Iterator

import pytest

from gpuworker.conformance.driving import Output, run
from gpuworker.engine import Completeness, Engine, EngineJob
from gpuworker.engines.piper.engine import Piper
from gpuworker.engines.reading import english_text
from gpuworker.engines.reading.english_front import EnglishFrontEnd
from gpuworker.engines.speech.engine import Speech
from gpuworker.engines.text import coverage
from tests.engines.texts import WIDE

pytestmark = pytest.mark.slow

WORDS = ("cat", "Dog", "TREE", "isn't", "naïve")
SIGNS = "-/.,:&+_@#'$€%°=*|()\u2013"


@pytest.fixture(scope="module")
def english() -> Iterator[EnglishFrontEnd]:
    front_end = EnglishFrontEnd()
    front_end.start()
    yield front_end
    front_end.stop()


def checked(output: Output, text: str) -> list[str]:
    """The tokens with a letter or a digit in which no word begins; their marks are in order, each once."""
    assert output.done
    assert output.done.completeness is Completeness.WORDS
    skipped = [text[start:end] for start, end in output.done.skipped]
    assert not any(map(coverage.is_word, skipped)), "what has letters or digits is no sign without a name"
    starts = [mark.start for mark in output.marks if mark.kind == "word"]
    assert starts == sorted(set(starts))
    tokens = [found.span() for found in re.finditer(r"\S+", text) if coverage.is_word(found.group())]
    return [text[start:end] for start, end in tokens if not any(start <= place < end for place in starts)]


def said(engine: Engine, text: str, voice: str) -> list[str]:
    return checked(run(engine, EngineJob(id="j", input=text, voice=voice)), text)


@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("voice", ["en-us", "de", "ru", "cmn", "th"])
def test_speech_says_all_of_it(speech: Speech, voice: str, kind: str) -> None:
    unmarked = said(speech, WIDE[kind], voice)
    assert len(unmarked) <= 0.34 * len(WIDE[kind].split()), "but for words that are spoken in one breath"


@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("voice", ["en_US-random-low", "de_DE-random-low"])
def test_piper_says_all_of_it(piper: Piper, voice: str, kind: str) -> None:
    unmarked = said(piper, WIDE[kind], voice)
    assert len(unmarked) <= (0.2 if voice.startswith("de") else 0.05) * len(WIDE[kind].split())


@pytest.mark.parametrize("kind", WIDE)
def test_both_engines_take_markdown_off(speech: Speech, piper: Piper, kind: str) -> None:
    job = EngineJob(id="j", input=WIDE[kind], params={"text": "markdown"})
    for engine in (speech, piper):
        checked(run(engine, job), WIDE[kind])


@pytest.mark.parametrize("kind", WIDE)
def test_english_names_every_word_that_it_cannot_say(english: EnglishFrontEnd, kind: str) -> None:
    text = WIDE[kind]
    found = english.phonemes(text)
    spoken = {place for word in found.words for place in range(word.start, word.start + word.length)}
    lost = {place for start, end in found.unspoken for place in range(start, end)}
    for token in re.finditer(r"\S+", text):
        if coverage.is_word(token.group()):
            assert not {*range(*token.span())}.isdisjoint(spoken | lost), token.group()


@pytest.mark.parametrize("seed", range(20))
def test_no_word_and_no_digit_of_a_random_token_is_left_out(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        parts = [rng.choice((*WORDS, f"{rng.randrange(10**6)}", *SIGNS, *SIGNS)) for _ in range(rng.randint(1, 6))]
        token = "".join(parts)
        words = english_text.words(token, lambda word: word.casefold() in {"cat", "dog", "tree", "isn't", "naive"})
        letters = "".join(words).casefold()
        for word in ("cat", "dog", "tree"):
            assert letters.count(word) >= token.casefold().count(word), (token, words)
        if any(map(str.isdigit, token)):
            named = r"zero|oh|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twel|teen|twent|ty|hundred|first|second|third|half|quarter"
            assert re.search(named, " ".join(words)), (token, words)


def test_every_letter_and_digit_of_unicode_becomes_a_word() -> None:
    silent = [
        chr(code)
        for code in range(0x30000)
        if coverage.is_word(chr(code)) and not english_text.words(f"{chr(code)}{chr(code)}", lambda word: False)
    ]
    assert silent == []
