"""Scripts: every engine that speaks takes them, each turn sounds as its text does alone, and errors name the turn."""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from bus.script import PAUSE_S, Turn, joined
from gpuworker import registry
from gpuworker.conformance.driving import Output, checked, next_block, resumed, run
from gpuworker.conformance.for_pytest import EngineConformance
from gpuworker.engine import Cancel, Completeness, Done, Engine, EngineJob, Event, Pcm, Rejected, TextLost, Voice
from gpuworker.engines.piper.engine import Piper
from gpuworker.engines.speech.engine import Speech
from gpuworker.engines.tone import Tone, ToneOptions
from gpuworker.host.script import ScriptReader
from tests.engines.texts import STORY
from tests.support import kokoro_model, piper_voice
from tests.support.broken_engines import described

GREETING = "Good morning, is there anybody in this lighthouse?"


def script_job(*turns: tuple[str, str, str], voice: str = "", seed: int = 0, **params: object) -> EngineJob:
    """A job of (speaker, voice, text)."""
    script = tuple(Turn(speaker=speaker, voice=own, text=text) for speaker, own, text in turns)
    return EngineJob(id="s", input=joined(script), script=script, voice=voice, seed=seed, params=params)


def alone(engine: Engine, job: EngineJob) -> list[Output]:
    """The turns of a valid script, each as a job."""
    return [
        run(engine, EngineJob(id="t", input=turn.text, voice=turn.voice, seed=job.seed, params=job.params))
        for turn in job.script
    ]


def with_pauses(engine: Engine, turns: Sequence[Output]) -> Pcm:
    pause = np.zeros((int(PAUSE_S * engine.capabilities().rate_hz), 1), np.float32)
    pieces = [piece for turn in turns for piece in (turn.pcm, pause)]
    return np.concatenate(pieces[:-1])


class ScriptConformance(EngineConformance):
    """The tests of every engine with scripts for its jobs."""

    @classmethod
    def make(cls) -> Engine:
        return ScriptReader(registry.make(cls.name, cls.options))


class TestSpeechScripts(ScriptConformance):
    name = "speech"
    first = script_job(
        ("Ann", "", STORY), ("Bob", "de+f3", "Guten Tag."), ("Ann", "", STORY), ("", "fr", "Oui."), seed=11
    )
    second = script_job(("", "", "In short: it sounds."), ("", "de", "So ist es."), speed=1.5)


@pytest.mark.slow
class TestPiperScripts(ScriptConformance):
    name = "piper"
    options = {"voices": str(piper_voice.random_voices())}  # noqa: RUF012
    first = script_job(
        ("Ann", "en_US-random-low", STORY), ("Bob", "de_DE-random-low", "Guten Tag."), ("Ann", "", STORY), seed=11
    )
    second = script_job(("", "en_US-two-low", "In short: it sounds."), ("", "de_DE-random-low", "Ja."), speed=1.5)


class TestKokoroScripts(ScriptConformance):
    name = "kokoro"
    options = {"model": str(kokoro_model.random_model())}  # noqa: RUF012
    first = script_job(("Ann", "af_random", STORY), ("Bob", "ef_random", "Buenos días."), ("Ann", "", STORY), seed=11)
    second = script_job(("", "am_other", "In short: it sounds."), ("", "ef_random", "Sí."), speed=1.5)


# Sound, marks and findings


def test_a_turn_sounds_as_its_text_alone_with_a_pause_between_two(speech: Speech) -> None:
    reader = ScriptReader(speech)
    job = checked(
        reader, script_job(("Ann", "en-gb", GREETING), ("Bob", "de", "Guten Tag."), ("Ann", "", STORY), speed=1.2)
    )
    assert [turn.voice for turn in job.script] == ["en-gb", "de", "en-gb"]
    assert run(reader, job).pcm.tobytes() == with_pauses(speech, alone(speech, job)).tobytes()


def test_marks_and_skipped_tokens_count_in_the_joined_texts(speech: Speech) -> None:
    reader = ScriptReader(speech)
    job = checked(reader, script_job(("", "en-gb", "Hello ⟴ world."), ("", "de", "Guten Tag ⟴.")))
    output = run(reader, job)
    words = {job.input[mark.start : mark.start + mark.length] for mark in output.marks if mark.kind == "word"}
    assert words == {"Hello", "world", "Guten", "Tag"}
    assert [job.input[mark.start : mark.start + mark.length] for mark in output.marks if mark.kind == "sentence"] == [
        "Hello ⟴ world.",
        "Guten Tag ⟴.",
    ]
    assert output.done is not None
    assert [job.input[start:end] for start, end in output.done.skipped] == ["⟴", "⟴."]
    assert output.done.completeness is Completeness.WORDS
    assert output.done.facts == {"turns": 2, "voices": ["en-gb", "de"]}


def test_a_replacement_repeats_what_was_found_before_its_checkpoint(speech: Speech) -> None:
    reader = ScriptReader(speech)
    job = checked(reader, script_job(*[("", "", f"{STORY} ⟴ {n}.") for n in range(4)]))
    whole = run(reader, job)
    assert len(whole.checkpoints) >= 3
    rest = resumed(reader, job, whole.checkpoints[-1].frame + 10, whole)
    assert rest.blocks[0].first_frame == whole.checkpoints[-1].frame
    assert rest.done == whole.done
    assert whole.done is not None
    assert [job.input[start:end] for start, end in whole.done.skipped] == ["⟴"] * 4


@pytest.mark.slow
def test_a_replacement_begins_in_the_middle_of_a_long_turn(piper: Piper, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ScriptReader(piper)
    job = checked(
        reader, script_job(("", "", GREETING), ("", "de_DE-random-low", STORY * 6), ("", "", GREETING), seed=5)
    )
    whole = run(reader, job)
    notes = [note for note in whole.checkpoints if note.frame > len(alone(piper, job)[0].pcm) + 11 * 22_050]
    assert notes, "the engine's own checkpoints are passed on"
    for frame in (notes[0].frame, notes[0].frame + 5_000, whole.end_frame - 100):
        rest = resumed(reader, job, frame, whole)
        assert rest.blocks[0].first_frame > notes[0].frame - 22_050
        assert rest.from_frame(frame).tobytes() == whole.pcm[frame:].tobytes()
        assert rest.done == whole.done
    given: list[EngineJob] = []
    generate = piper.generate
    monkeypatch.setattr(piper, "generate", lambda jobs: given.extend(jobs) or generate(jobs))
    resumed(reader, job, notes[0].frame, whole)
    assert given[0].start_frame > 10 * 22_050, "nothing is made twice"
    assert given[0].checkpoint is not None
    assert (given[1].start_frame, given[1].checkpoint) == (0, None)


def test_a_script_is_as_sure_of_its_words_as_its_least_sure_turn(speech: Speech) -> None:
    class Unsure(Speech):
        """Does not know whether it spoke all words of a German text."""

        def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
            for index, event in speech.generate(jobs):
                is_unsure = isinstance(event, Done) and jobs[index].voice == "de"
                yield index, Done() if is_unsure else event

    for turns, found in (((0, 1), Completeness.NONE), ((1, 0), Completeness.NONE), ((0, 0), Completeness.WORDS)):
        job = script_job(*[("", ("en-gb", "de")[turn], "Hello.") for turn in turns])
        done = run(ScriptReader(Unsure()), job).done
        assert done is not None
        assert done.completeness is found


def test_a_cancelled_script_ends_without_done(speech: Speech) -> None:
    reader = ScriptReader(speech)
    job = checked(reader, replace(script_job(("", "", GREETING), ("", "de", STORY)), cancel=Cancel()))
    output = Output(1)
    for _, event in reader.generate([job]):
        output.add(event)
        job.cancel.cancelled = True
    assert output.done is None
    assert len(output.blocks) <= 1


def test_a_script_that_is_left_stops_the_engine(speech: Speech) -> None:
    reader = ScriptReader(speech)
    job = checked(reader, script_job(("", "", GREETING), ("", "de", STORY)))
    events = reader.generate([job])
    first = next_block(events).pcm.tobytes()
    events.close()
    assert list(events) == []
    assert next_block(reader.generate([job])).pcm.tobytes() == first


# Errors


@pytest.mark.parametrize(
    ("turns", "path", "words"),
    [
        ((("", "", "Hi."), ("", "zz-nosuch", "Hi.")), "script[1].voice", "zz-nosuch"),
        ((("", "", "Hi."), ("", "", "\n")), "script[1].text", "blank"),
        ((("", "", "<speak><audio src='x'/></speak>"), ("", "", "Hi.")), "script[0].text", "<audio>"),
    ],
    ids=range(3),
)
def test_a_refusal_names_the_field_of_the_turn(
    speech: Speech, turns: tuple[tuple[str, str, str], ...], path: str, words: str
) -> None:
    with pytest.raises(Rejected, match=words) as refusal:
        checked(ScriptReader(speech), script_job(*turns))
    assert refusal.value.path == path


def test_a_lost_word_names_its_turn_and_its_place_in_it(speech: Speech) -> None:
    reader = ScriptReader(speech)
    with pytest.raises(TextLost, match=r"^script\[1\]\.text: .* cannot speak 'ᏣᎳᎩ' at 0") as lost:
        run(reader, script_job(("", "", "Hi."), ("", "en-us", "ᏣᎳᎩ")))
    assert lost.value.path == "script[1].text"


def test_an_engine_that_does_not_speak_refuses_scripts() -> None:
    assert not Tone().capabilities().scripts
    with pytest.raises(Rejected, match="tone takes no script") as refusal:
        ScriptReader(Tone()).validate(script_job(("", "", "Hi.")))
    assert refusal.value.path == "script"


def test_the_voice_of_a_job_need_not_speak_its_first_turn_and_ssml_that_is_wrong_is_the_turns() -> None:
    reader = ScriptReader(Speech())
    wrong = '<speak>One<break time="100s"/></speak>'
    with pytest.raises(Rejected) as refusal:
        reader.validate(script_job(("", "", wrong), voice="en-us"))
    assert refusal.value.path == "script[0].text"
    with pytest.raises(Rejected) as refusal:
        reader.validate(script_job(("", "de", "Eins."), ("", "", "Two."), voice="no-such"))
    assert refusal.value.path == "voice"


def test_a_script_goes_on_from_growing_checkpoints_of_its_engine_within_any_turn() -> None:
    """`tone` fails a turn that does not get all checkpoints of its own, and none of another turn."""
    kind = described(kind="speech", voices=(Voice("a", "A", "en"),), default_voice="a")
    reader = ScriptReader(kind(ToneOptions(allow_faults=True)))
    turns = (("", "", text) for text in ("one", "two", "three"))
    job = script_job(*turns, seconds=2.5, block_ms=500, checkpoint_bytes=32)
    whole = run(reader, job)
    assert [note.grows for note in whole.checkpoints].count(True) == 13, "one in each later turn does not grow"
    for note in whole.checkpoints:
        for frame in (note.frame, note.frame + 1_000):
            rest = resumed(reader, job, frame, whole)
            assert rest.from_frame(frame).tobytes() == whole.pcm[frame:].tobytes()
            late = [each for each in rest.checkpoints if each.grows]
            due = [each for each in whole.checkpoints if each.grows and each.frame > note.frame]
            assert late == due
