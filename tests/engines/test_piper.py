"""The engine `piper` with voices of random weights: the cut graph, its windows, words and resuming."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gpuworker.conformance.driving import checked, resumed, run
from gpuworker.engine import Completeness, EngineJob, Rejected, TextLost
from gpuworker.engines.piper import graphs
from gpuworker.engines.piper.engine import Piper
from gpuworker.engines.piper.network import Manner, Network, Prior, open_session
from tests.engines.texts import STORY
from tests.support.piper_voice import HOP, RATE_HZ, random_voices

pytestmark = pytest.mark.slow

#: Frames on either side that decide one of the flow of these voices.
FLOW_CONTEXT = 2
MANNER = Manner(speaker=0, speed=1.0, variation=0.667, rhythm=0.8, seed=5)
IDS = [1, 0, *(number for symbol in range(14, 60) for number in (symbol, 0)), 2]
JOB = EngineJob(id="j", input=STORY, voice="en_US-random-low", seed=3)


# The graph and its windows


def test_the_cut_finds_hop_and_context_in_the_graph() -> None:
    found = graphs.cut(random_voices() / "en_US-random-low.onnx")
    assert found.hop == HOP
    assert found.context == 6
    assert found.flow_context == FLOW_CONTEXT
    assert not found.has_speakers
    assert graphs.cut(random_voices() / "en_US-two-low.onnx").has_speakers


def test_windows_are_the_audio_of_the_whole_latent() -> None:
    network = Network(random_voices() / "en_US-random-low.onnx", "cpu")
    prior = network.prior(IDS, 0, MANNER)
    windows = list(network.windows(prior, 0))
    assert len(windows) >= 4
    parts = network.graphs
    (latent,) = open_session(parts.flow, "cpu").run(None, {parts.joined: prior.joined, parts.mask: prior.mask})
    (whole,) = open_session(parts.vocoder, "cpu").run(None, {parts.latent: latent})
    joined = np.concatenate([pcm for _, pcm in windows])[:, 0]
    assert len(joined) == prior.frames == whole.size
    assert np.abs(joined).max() > 0.1
    assert np.abs(joined - whole.reshape(-1)).max() < 1e-5


@pytest.mark.parametrize("context", ["context", "flow_context"])
def test_a_narrower_context_would_be_heard(context: str) -> None:
    """The context that the graph asks for is not generous: half of it changes the audio."""
    network = Network(random_voices() / "en_US-random-low.onnx", "cpu")
    prior = network.prior(IDS, 0, MANNER)
    right = np.concatenate([pcm for _, pcm in network.windows(prior, 0)])
    network.graphs = replace(network.graphs, **{context: getattr(network.graphs, context) // 2})
    wrong = np.concatenate([pcm for _, pcm in network.windows(prior, 0)])
    assert np.abs(right - wrong).max() > 1e-3


def test_the_first_sound_of_a_long_sentence_needs_a_small_part_of_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    flow = Network.flow

    def counted(network: Network, prior: Prior, low: int, high: int) -> NDArray[np.float32]:
        widths.append(high - low)
        return flow(network, prior, low, high)

    monkeypatch.setattr(Network, "flow", counted)
    network = Network(random_voices() / "en_US-random-low.onnx", "cpu")
    prior = network.prior(IDS * 8, 0, MANNER)
    windows = network.windows(prior, 0)
    next(windows)
    assert widths == [8 + 6 + FLOW_CONTEXT]
    rest = [pcm for _, pcm in windows]
    assert len(rest) > 10
    assert sum(widths) < 1.3 * prior.joined.shape[2], "the windows of the flow are not wide"


def test_an_attempt_that_begins_anywhere_makes_the_same_bits() -> None:
    network = Network(random_voices() / "en_US-random-low.onnx", "cpu")
    prior = network.prior(IDS * 8, 0, MANNER)
    whole = dict(network.windows(prior, 0))
    assert len(whole) > 10
    for frame, right in whole.items():
        at, pcm = next(network.windows(prior, frame))
        assert (at, pcm.tobytes()) == (frame, right.tobytes())


def test_the_noise_is_of_seed_and_sentence_alone() -> None:
    network = Network(random_voices() / "en_US-random-low.onnx", "cpu")

    def sound(sentence: int, manner: Manner) -> bytes:
        return b"".join(pcm.tobytes() for _, pcm in network.windows(network.prior(IDS, sentence, manner), 0))

    assert sound(0, MANNER) == sound(0, MANNER)
    assert sound(0, MANNER) != sound(1, MANNER)
    assert sound(0, MANNER) != sound(0, replace(MANNER, seed=6))


def test_without_variation_every_seed_sounds_the_same(piper: Piper) -> None:
    still = {"variation": 0, "rhythm": 0}
    one, other = (run(piper, replace(JOB, seed=seed, params=still)).pcm for seed in (1, 2))
    assert one.tobytes() == other.tobytes()


# Text in, audio and marks out


def test_the_first_block_is_short(piper: Piper) -> None:
    assert len(run(piper, JOB).blocks[0].pcm) <= 0.1 * RATE_HZ


def test_speed_changes_the_length(piper: Piper) -> None:
    normal, fast, slow = (run(piper, replace(JOB, params={"speed": speed})).end_frame for speed in (1, 2, 0.5))
    assert fast < 0.8 * normal < 1.3 * normal < slow


@pytest.mark.parametrize(
    "text",
    [
        "One of the dogs, the old one, sleeps.",
        "“Well,” she said, “it's 3 o'clock.” (It was 1984.)",
        "Of the of the of the.",
    ],
)
def test_every_word_has_a_mark_in_order(piper: Piper, text: str) -> None:
    marks = [mark for mark in run(piper, replace(JOB, input=text)).marks if mark.kind == "word"]
    words = [text[mark.start : mark.start + mark.length] for mark in marks]
    assert words == [word.strip("“”,.()") for word in text.split()]
    frames = [mark.frame for mark in marks]
    assert frames == sorted(frames)
    assert len(set(frames)) > len(frames) // 2


def test_a_text_without_anything_to_speak_is_a_short_silence(piper: Piper) -> None:
    output = run(piper, replace(JOB, input="… — …"))
    assert output.end_frame == RATE_HZ // 10
    assert not output.pcm.any()


def test_a_long_text_has_checkpoints_and_resumes_from_them(piper: Piper) -> None:
    whole = run(piper, replace(JOB, input=STORY * 12))
    assert len(whole.checkpoints) >= 4
    frame = whole.checkpoints[2].frame + 12_345
    rest = resumed(piper, replace(JOB, input=STORY * 12), frame, whole)
    assert rest.blocks[0].first_frame >= whole.checkpoints[2].frame
    assert rest.from_frame(frame).tobytes() == whole.pcm[frame:].tobytes()


def test_a_front_end_that_died_is_replaced(piper: Piper) -> None:
    job = replace(JOB, input="Guten Abend.", voice="de_DE-random-low")
    before = run(piper, job).pcm
    assert piper.helper_pids
    for pid in piper.helper_pids:
        os.kill(pid, signal.SIGKILL)
    assert run(piper, job).pcm.tobytes() == before.tobytes()


# All of the text


def test_words_that_merge_are_not_lost_and_signs_without_a_name_are_listed(piper: Piper) -> None:
    text = "Tell us of the a of the a cat ⟴. And so on."
    done = run(piper, replace(JOB, input=text)).done
    assert done is not None
    assert done.completeness is Completeness.WORDS
    assert [text[start:end] for start, end in done.skipped] == ["⟴."]


def test_a_word_without_a_sound_fails_the_job_with_its_position(piper: Piper) -> None:
    with pytest.raises(TextLost, match=r"the voice cv_RU-random-low cannot speak 'ᏣᎳᎩ' at 6, 'ꦗꦮ' at 10") as lost:
        run(piper, replace(JOB, input="Пӗр — ᏣᎳᎩ ꦗꦮ.", voice="cv_RU-random-low"))
    assert lost.value.spans == ((6, 9), (10, 12))


def test_a_part_of_a_word_without_a_sound_fails_the_job_too(piper: Piper) -> None:
    with pytest.raises(TextLost, match="cannot speak 'ᏣᎳᎩ' at 6"):
        run(piper, replace(JOB, input="Ja, abᏣᎳᎩ.", voice="de_DE-random-low"))


def test_numbers_are_spelled_for_the_language_of_the_voice(piper: Piper) -> None:
    text = "Пӗр — 25 40."
    marks = [
        mark for mark in run(piper, replace(JOB, input=text, voice="cv_RU-random-low")).marks if mark.kind == "word"
    ]
    assert [text[mark.start : mark.start + mark.length] for mark in marks] == ["Пӗр", "2", "5", "4", "0"]


@pytest.mark.parametrize("voice", ["en_US-random-low", "de_DE-random-low"])
def test_a_sentence_beyond_the_librarys_buffer_is_read_in_halves(piper: Piper, voice: str) -> None:
    """espeak-ng drops phonemes above a thousand in a clause, without an error."""
    text = "7" * 14 + " " + " ".join(["777777777777"] * 20)
    marks = [mark for mark in run(piper, replace(JOB, input=text, voice=voice)).marks if mark.kind == "word"]
    assert [text[mark.start : mark.start + mark.length] for mark in marks] == text.split()


def test_ssml_is_refused(piper: Piper) -> None:
    with pytest.raises(Rejected, match="SSML"):
        checked(piper, replace(JOB, input="<speak>Hello</speak>"))


def test_a_break_is_a_pause_as_long_as_it_says_and_markdown_is_not_read(piper: Piper) -> None:
    plain = run(piper, replace(JOB, input="Well then. Go on."))
    paused = run(piper, replace(JOB, input='Well then. <break time="2.5s"/>Go on.', params={"breaks": True}))
    assert paused.end_frame - plain.end_frame == 2.5 * RATE_HZ
    marked = run(piper, replace(JOB, input="**Well** then. Go on.", params={"text": "markdown"}))
    assert marked.pcm.tobytes() == plain.pcm.tobytes()
    with pytest.raises(Rejected, match="pause"):
        checked(piper, replace(JOB, input='A <break time="99s"/> B', params={"breaks": True}))
