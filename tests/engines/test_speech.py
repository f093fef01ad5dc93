"""The speech engine: voices, params, equal audio of equal jobs, and refusals."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpuworker.conformance.driving import checked, next_block, resumed, run, schema_errors
from gpuworker.engine import EngineJob, MemoryPolicy, Pcm, Rejected
from gpuworker.engines.speech.engine import RATE_HZ, Speech
from tests.engines.texts import STORY

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Please turn on the light in the kitchen!",
    "The weather is nice today.",
]


def said(speech: Speech, text: str, voice: str = "", seed: int = 0, **params: Any) -> Pcm:
    return run(speech, EngineJob(id="j", input=text, voice=voice, params=params, seed=seed)).pcm


def pitch_hz(pcm: Pcm) -> float:
    """Median of the voiced frames, by the autocorrelation's peak between 60 and 400 Hz."""
    frame, nearest, farthest = 1024, RATE_HZ // 400, RATE_HZ // 60
    found = []
    for start in range(0, len(pcm) - frame, frame):
        part = pcm[start : start + frame, 0] - pcm[start : start + frame, 0].mean()
        correlation = np.correlate(part, part, "full")[frame - 1 :]
        lag = nearest + int(correlation[nearest:farthest].argmax())
        if correlation[0] > 1 and correlation[lag] > 0.5 * correlation[0]:
            found.append(RATE_HZ / lag)
    return float(np.median(found))


def refusal(speech: Speech, text: str = "Hello.", voice: str = "", **params: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        speech.validate(EngineJob(id="j", input=text, voice=voice, params=params))
    return caught.value


def test_earlier_texts_change_nothing(speech: Speech) -> None:
    for voice in ("", "de", "en-us+whisper", "en-us+klatt2"):
        first = said(speech, SENTENCES[0], voice)
        for text in (*SENTENCES, "1, 2, 3 …", STORY):
            said(speech, text, "fr")
        assert said(speech, SENTENCES[0], voice).tobytes() == first.tobytes()


def test_two_helper_processes_say_the_same(speech: Speech) -> None:
    other = Speech()
    other.load("cpu", MemoryPolicy())
    try:
        assert other.helper_pids[0] != speech.helper_pids[0]
        said(speech, SENTENCES[1], "ru")
        for voice in ("en-us", "cmn", "pl+f2"):
            assert said(other, STORY, voice).tobytes() == said(speech, STORY, voice).tobytes()
    finally:
        other.unload()


def test_a_sentence_sounds_alike_in_any_company(speech: Speech) -> None:
    alone = [said(speech, sentence) for sentence in SENTENCES]
    assert said(speech, " ".join(SENTENCES)).tobytes() == np.concatenate(alone).tobytes()
    assert said(speech, f"{SENTENCES[2]} {SENTENCES[0]}").tobytes() == np.concatenate([alone[2], alone[0]]).tobytes()


def test_the_seed_matters_where_there_is_chance(speech: Speech) -> None:
    one, same, other = (said(speech, SENTENCES[0], "en-us+whisper", seed) for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()
    assert len(said(speech, SENTENCES[0], "en-us+whisper", 2**63 - 1)) == len(one)


def test_every_voice_listed_can_speak(speech: Speech) -> None:
    silent = [
        voice.id
        for voice in speech.capabilities().voices
        if not next_block(speech.generate([checked(speech, EngineJob(id="j", input="123.", voice=voice.id))])).pcm.size
    ]
    assert silent == []
    ids = {voice.id for voice in speech.capabilities().voices}
    assert ids >= {"en-us", "en-gb", "de", "fr-fr", "es", "es-419", "cmn", "ja", "ru", "yue-latn-jyutping"}
    assert len(ids) >= 135
    assert not ids & {"fo", "kaa", "xex"}, "their dictionaries are not in the wheel"


@pytest.mark.parametrize(
    ("voice", "found"),
    [
        ("", "en-us"),
        ("en", "en-gb"),
        ("EN-US", "en-us"),
        ("fr", "fr-fr"),
        ("zh", "cmn"),
        ("no", "nb"),
        ("en-us+F3", "en-us+f3"),
        ("en+alicia", "en-gb+Alicia"),
    ],
)
def test_a_voice_is_found_by(speech: Speech, voice: str, found: str) -> None:
    assert speech.validate(EngineJob(id="j", input="Hello.", voice=voice)).voice == found


def test_voices_and_variants_sound_unlike(speech: Speech) -> None:
    voices = ("en-us", "en-gb", "de", "en-us+f3", "en-us+m7", "en-us+Alicia")
    assert len({said(speech, SENTENCES[0], voice).tobytes() for voice in voices}) == len(voices)
    assert pitch_hz(said(speech, SENTENCES[0], "en-us+f3")) > 1.3 * pitch_hz(said(speech, SENTENCES[0]))


@pytest.mark.parametrize(
    ("voice", "hint"),
    [("en-uss", "en-us"), ("germn", ""), ("en-us+alica", "en-us+Alicia"), ("de+", ""), ("../../etc/passwd", "")],
)
def test_an_unknown_voice_is_refused_with_similar_ones(speech: Speech, voice: str, hint: str) -> None:
    error = refusal(speech, voice=voice)
    assert error.path == "voice"
    assert hint in error.message


def test_speed_is_proportion(speech: Speech) -> None:
    usual = len(said(speech, STORY))
    for speed in (0.5, 0.75, 1.5, 2.0, 4.0):
        assert len(said(speech, STORY, speed=speed)) * speed == pytest.approx(usual, rel=0.12), speed


def test_a_speed_that_is_too_slow_for_the_library_is_reported_in_done(speech: Speech) -> None:
    slowest = run(speech, EngineJob(id="j", input=STORY, params={"speed": 0.25}))
    assert slowest.done is not None
    assert slowest.done.facts["words_per_minute"] == 80
    assert slowest.pcm.tobytes() == said(speech, STORY, speed=80 / 175).tobytes()


def test_pitch_range_and_volume_change_the_audio(speech: Speech) -> None:
    low, usual, high = (pitch_hz(said(speech, STORY, pitch=pitch)) for pitch in (0, 50, 100))
    assert low < 0.8 * usual < usual < 0.8 * high
    assert said(speech, STORY, range=0).tobytes() != said(speech, STORY).tobytes()
    assert np.abs(said(speech, STORY, volume=50)).max() < 0.6 * np.abs(said(speech, STORY)).max()
    assert not said(speech, STORY, volume=0).any()


@pytest.mark.parametrize("params", [{"speed": 0.2}, {"speed": 4.1}, {"pitch": 101}, {"range": -1}, {"volume": 201}])
def test_the_schema_bounds(speech: Speech, params: dict[str, Any]) -> None:
    assert schema_errors(speech, EngineJob(id="j", input="Hello.", params=params))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (" \n\t ", "blank"),
        ("a\x00b", "U+0000 at position 1"),
        ("ab\x1b[0m", "U+001B at position 2"),
        ("a\x86", "U+0086 at position 1"),
        ("\ud83d", "U+D83D at position 0"),
        ("<speak>a", "line 1, column 9"),
        ("<speak><audio src='x'/></speak>", "audio"),
    ],
)
def test_a_text_that_cannot_be_spoken_is_refused_with_the_place(speech: Speech, text: str, complaint: str) -> None:
    error = refusal(speech, text)
    assert error.path == "input"
    assert complaint in error.message


@pytest.mark.parametrize("text", ["...", "—", "<speak/>", "<speak> </speak>", "!?", "\u200b", "😀", "\u0301"])
def test_a_text_without_words_still_is_a_little_audio(speech: Speech, text: str) -> None:
    assert 0.1 * RATE_HZ <= len(said(speech, text)) < 3 * RATE_HZ


def test_tabs_newlines_and_any_script_are_spoken(speech: Speech) -> None:
    assert np.abs(said(speech, "One\ttwo\r\nthree", "en-us")).max() > 0.05
    assert np.abs(said(speech, "你好，世界。", "cmn")).max() > 0.05
    assert np.abs(said(speech, "Съешь ещё этих булок.", "ru")).max() > 0.05


def test_ssml_is_obeyed(speech: Speech) -> None:
    plain, paused = (len(said(speech, f"<speak>One{pause} two</speak>")) for pause in ("", " <break time='1500ms'/>"))
    assert paused - plain == pytest.approx(1.5 * RATE_HZ, rel=0.35)
    assert (
        said(speech, "<speak>One <voice name='de'>acht</voice></speak>").tobytes()
        != said(speech, "<speak>One acht</speak>").tobytes()
    )
    assert said(speech, "One &lt;break/&gt; two").tobytes() != said(speech, "<speak>One two</speak>").tobytes()


def test_the_first_block_of_the_longest_text_is_there_at_once_and_small(speech: Speech) -> None:
    text = (STORY * 2_000)[:200_000]
    elapsed_s = []
    for _ in range(5):
        started = time.perf_counter()
        events = speech.generate([checked(speech, EngineJob(id="j", input=text))])
        first = next_block(events)
        elapsed_s.append(time.perf_counter() - started)
        events.close()
        assert len(first.pcm) <= 0.1 * RATE_HZ
    assert min(elapsed_s) < 1


def test_a_checkpoint_every_half_minute_spares_the_replay(speech: Speech) -> None:
    job = EngineJob(id="j", input=STORY * 12)
    whole = run(speech, job)
    assert len(whole.checkpoints) >= 2
    gaps = np.diff([0, *(note.frame for note in whole.checkpoints)])
    assert (gaps >= 30 * RATE_HZ).all()
    assert (gaps < 60 * RATE_HZ).all()
    last = whole.checkpoints[-1]
    rest = resumed(speech, job, last.frame + 777, whole)
    assert rest.blocks[0].first_frame >= last.frame
    events = speech.generate([checked(speech, replace(job, start_frame=last.frame, checkpoint=last.data))])
    assert next_block(events).first_frame == last.frame
    events.close()


def test_a_checkpoint_ahead_of_the_log_is_not_followed(speech: Speech) -> None:
    job = EngineJob(id="j", input=STORY * 6)
    whole = run(speech, job)
    early = replace(job, start_frame=100, checkpoint=whole.checkpoints[-1].data)
    assert run(speech, early).from_frame(100).tobytes() == whole.pcm[100:].tobytes()
