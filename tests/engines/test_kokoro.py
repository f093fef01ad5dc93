"""The engine `kokoro` with random weights: phonemes, pieces of long sentences, marks, and files that are no model."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuworker import registry
from gpuworker.conformance.driving import checked, run
from gpuworker.engine import Completeness, EngineJob, Rejected, TextLost
from gpuworker.engines.kokoro.engine import Kokoro
from gpuworker.engines.kokoro.network import RATE_HZ
from gpuworker.engines.kokoro.phonemes import KokoroFrontEnd
from gpuworker.engines.kokoro.speaker import MAX_PHONEMES, Speaker
from gpuworker.engines.kokoro.vocabulary import IDS, MAX_IDS
from gpuworker.engines.reading import front_ends
from gpuworker.engines.reading.front_ends import FrontEnds
from gpuworker.engines.reading.reader import Reader, Reading
from gpuworker.engines.text.parts import Part
from tests.engines.texts import SENTENCES, STORY
from tests.support import assets, kokoro_model
from tests.support.asr import recognised
from tests.support.kokoro_model import loaded, made

JOB = EngineJob(id="j", input=STORY, voice="af_random")
#: More phonemes than one pass takes, in one sentence, with few marks.
LONG = "and the keeper of the lighthouse counted another seven ships that sailed by in the night " * 3


@pytest.fixture(scope="module")
def kokoro() -> Iterator[Kokoro]:
    yield from loaded(made(kokoro_model.random_model()))


@pytest.fixture(scope="module")
def english() -> Iterator[Reader]:
    ends = FrontEnds()
    yield Reader(KokoroFrontEnd(ends.open("en-us"), "en-us"), IDS)
    ends.stop()


# Phonemes


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello world.", "həlˈO wˈɜɹld."),
        ("The judge chose a boy.", "ðə ʤˈʌʤ ʧˈOz ɐ bˈY."),
        ("Five towns out there!", "fˈIv tˈWnz ˈWt ðɛɹ!"),
        ("See the bird, father.", "sˈi ðə bˈɜɹd, fˈɑðəɹ."),
    ],
)
def test_english_is_written_with_one_letter_for_a_diphthong_and_no_long_vowels(
    english: Reader, text: str, phonemes: str
) -> None:
    assert english.read(Part(text, range(len(text)), 0)).symbols == phonemes


def test_each_word_has_the_place_of_its_first_phoneme(english: Reader) -> None:
    text = "Five judges chose boys."
    reading = english.read(Part(text, range(len(text)), 0))
    words = {text[start:end]: reading.symbols[symbol:].split(" ")[0] for symbol, (start, end) in reading.words}
    assert words == {"Five": "fˈIv", "judges": "ʤˈʌʤəz", "chose": "ʧˈOz", "boys": "bˈYz."}


def test_the_model_knows_every_phoneme_of_english(english: Reader) -> None:
    symbols = english.read(Part(LONG + STORY, range(len(LONG + STORY)), 0)).symbols
    assert {symbol for symbol in symbols if symbol not in IDS} == set()


# Sentences, pieces, marks


def test_a_long_sentence_is_made_in_pieces_and_no_word_is_lost(kokoro: Kokoro, english: Reader) -> None:
    reading = english.read(Part(4 * LONG, range(4 * len(LONG)), 0))
    speaker = Speaker(None, None, english, 1.0)  # type: ignore[arg-type]  # pieces need neither voice nor network
    pieces = speaker.pieces(reading)
    assert len(pieces) > 4
    assert all(0 < len(piece.symbols) <= MAX_PHONEMES <= MAX_IDS for piece in pieces)
    assert "".join(piece.symbols for piece in pieces) == reading.symbols
    assert all(piece.symbols.endswith(" ") for piece in pieces[:-1])
    output = run(kokoro, EngineJob(id="j", input=LONG, voice="af_random"))
    spoken = [mark for mark in output.marks if mark.kind == "word"]
    assert [LONG[mark.start : mark.start + mark.length] for mark in spoken] == LONG.split()
    assert [mark.start for mark in output.marks if mark.kind == "sentence"] == [0]
    assert output.done is not None
    assert output.done.completeness is Completeness.WORDS


@pytest.mark.parametrize(("speed", "most"), [(0.25, 30), (0.5, 60), (1.0, 120), (4.0, 120)])
def test_pieces_of_slow_speech_have_fewer_phonemes(english: Reader, speed: float, most: int) -> None:
    """All of a piece is made before its first sound: that must not take as long as a stalled job."""
    speaker = Speaker(None, None, english, speed)  # type: ignore[arg-type]
    pieces = speaker.pieces(english.read(Part(4 * LONG, range(4 * len(LONG)), 0)))
    assert most / 2 < max(len(piece.symbols) for piece in pieces) <= most


def test_phonemes_without_any_blank_are_cut_in_the_middle() -> None:
    speaker = Speaker(None, None, None, 1.0)  # type: ignore[arg-type]
    pieces = speaker.pieces(Reading("a" * 1000, [(0, (0, 1)), (999, (5, 6))]))
    assert sum(len(piece.symbols) for piece in pieces) == 1000
    assert len(pieces) == 16
    assert pieces[-1].words == [(len(pieces[-1].symbols) - 1, (5, 6))]


def test_words_have_marks_and_a_graph_without_lengths_has_those_of_sentences(tmp_path: Path, kokoro: Kokoro) -> None:
    marks = run(kokoro, JOB).marks
    words = [mark for mark in marks if mark.kind == "word"]
    assert [STORY[mark.start : mark.start + mark.length] for mark in words[:3]] == ["The", "lighthouse", "keeper"]
    assert len({mark.frame for mark in words}) == len(words)
    for plain in loaded(made(kokoro_model.write(tmp_path, has_lengths=False))):
        assert run(plain, JOB).marks
        assert {mark.kind for mark in run(plain, JOB).marks} == {"sentence"}


def test_the_other_published_name_of_the_input_is_known(tmp_path: Path, kokoro: Kokoro) -> None:
    for other in loaded(made(kokoro_model.write(tmp_path, ids="input_ids"))):
        assert run(other, JOB).pcm.tobytes() == run(kokoro, JOB).pcm.tobytes()


def test_a_pause_follows_each_sentence(kokoro: Kokoro) -> None:
    output = run(kokoro, EngineJob(id="j", input="It sounds. So it does.", voice="af_random"))
    pause = int(0.15 * RATE_HZ)
    _, second = [mark.frame for mark in output.marks if mark.kind == "sentence"]
    for end in (second, output.end_frame):
        assert not output.pcm[end - pause : end].any()
        assert output.pcm[end - pause - 1].any()


def test_speed_and_voice_change_the_sound(kokoro: Kokoro) -> None:
    length, fast = (run(kokoro, EngineJob(id="j", input=STORY, params={"speed": speed})).end_frame for speed in (1, 2))
    assert 1.4 < length / fast < 2.6
    assert run(kokoro, JOB).pcm.tobytes() != run(kokoro, EngineJob(id="j", input=STORY, voice="am_other")).pcm.tobytes()


def test_voices_are_listed_with_language_and_gender_and_found_in_any_case(kokoro: Kokoro) -> None:
    voices = {voice.id: (voice.name, voice.language, voice.gender) for voice in kokoro.capabilities().voices}
    assert voices == {
        "af_random": ("Random", "en-us", "female"),
        "am_other": ("Other", "en-us", "male"),
        "ef_random": ("Random", "es", "female"),
    }
    assert all(len(voice.sha256) == 64 for voice in kokoro.capabilities().voices)
    assert checked(kokoro, EngineJob(id="j", input="a", voice="EF_Random")).voice == "ef_random"
    assert checked(kokoro, EngineJob(id="j", input="a")).voice == "af_random"
    with pytest.raises(Rejected, match=r"'af_randon' is not known.*af_random"):
        checked(kokoro, EngineJob(id="j", input="a", voice="af_randon"))


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"input": "<speak>a</speak>"}, "input", "is SSML"),
        ({"input": "a\x07"}, "input", r"control character U\+0007"),
        ({"input": '<break time="99s"/>', "params": {"breaks": True}}, "input", "wrong pause"),
    ],
)
def test_bad_input_is_refused(kokoro: Kokoro, change: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(Rejected, match=message) as refusal:
        checked(kokoro, EngineJob(**{"id": "j", "input": "a", **change}))
    assert refusal.value.path == path


def test_without_espeak_english_is_spoken_and_other_voices_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_ends, "find_espeak", lambda: None)
    for engine in loaded(made(kokoro_model.random_model())):
        assert [voice.id for voice in engine.capabilities().voices] == ["af_random", "am_other"]
        assert engine.capabilities().licence == "Apache-2.0"
        with pytest.raises(Rejected, match=r"needs? espeak-ng.*antiphon\[espeak\]"):
            checked(engine, EngineJob(id="j", input="a", voice="ef_random"))
        with pytest.raises(TextLost, match="漢字"):
            run(engine, EngineJob(id="j", input="It is 漢字.", voice="af_random"))
        assert run(engine, JOB).end_frame > RATE_HZ


def test_a_helper_process_ends_with_its_engine(kokoro: Kokoro) -> None:
    for engine in loaded(made(kokoro_model.random_model())):
        run(engine, EngineJob(id="j", input="Buenos días.", voice="ef_random"))
        (pid,) = engine.helper_pids
        os.kill(pid, 0)
    assert engine.helper_pids == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# The published model


@pytest.fixture(scope="module")
def published() -> Iterator[Kokoro]:
    engine = registry.make("kokoro", assets.kokoro())
    assert isinstance(engine, Kokoro)
    yield from loaded(engine)


@pytest.mark.slow
def test_the_published_model_is_understood(published: Kokoro) -> None:
    for text in SENTENCES[:3]:
        output = run(published, EngineJob(id="j", input=text, voice="jm_kumo"))
        pcm = np.rint(output.pcm * 32768).clip(-32768, 32767).astype("<i2").tobytes()
        assert recognised(pcm, RATE_HZ, SENTENCES) == text


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("text", ["a. b. c. d.", "wow WOW www", "$4.50 and 12%", "Oh! No! I!", "12345"])
def test_the_published_model_speaks_no_longer_than_its_bound(published: Kokoro, text: str, speed: float) -> None:
    job = checked(published, EngineJob(id="j", input=text, voice="jf_alpha", params={"speed": speed}))
    bound = published.capabilities().bound
    assert bound is not None
    assert run(published, job).end_frame / RATE_HZ <= bound.seconds(text, job.voice, job.params)
