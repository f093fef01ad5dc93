import itertools
import re
import subprocess
import sys
from collections.abc import Iterator

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuworker.engine import Block, Done, Engine, EngineJob, MemoryPolicy, Pcm, Rejected
from gpuworker.engines.music.drums import write_drums
from gpuworker.engines.music.engine import Music
from gpuworker.engines.music.form import RATE_HZ, Form
from gpuworker.engines.music.melody import write_lead
from gpuworker.engines.music.mood import parse_key, plan
from gpuworker.engines.music.parts import WRITERS
from gpuworker.engines.music.scene import Scene, WrittenNote, make_scene
from gpuworker.engines.music.score import Scores
from gpuworker.engines.music.styles import STYLES

pytestmark = pytest.mark.slow
BLOCK, SECONDS = 24_000, 9.3


@pytest.fixture(scope="module")
def music() -> Iterator[Music]:
    engine = Music()
    engine.load("cpu", MemoryPolicy())
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def whole(music: Music) -> list[Block]:
    return blocks(music, job())


def job(
    prompt: str = "epic techno with echo, 128 bpm", *, start_frame: int = 0, seed: int = 3, **params: object
) -> EngineJob:
    return EngineJob(id="m1", input=prompt, seed=seed, start_frame=start_frame, params={"seconds": SECONDS, **params})


def blocks(music: Music, wanted: EngineJob, limit: int | None = None) -> list[Block]:
    events = music.generate([music.validate(wanted)])
    made = [event for _, event in itertools.islice(events, limit) if isinstance(event, Block)]
    events.close()
    return made


def joined(made: list[Block]) -> Pcm:
    return np.concatenate([block.pcm for block in made])


def test_music_is_an_engine_whose_module_does_not_import_torch() -> None:
    assert isinstance(Music(), Engine)
    code = (
        "import sys, gpuworker.engines.music.engine as m; m.Music().capabilities(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_equal_jobs_give_equal_samples_and_another_seed_another_piece(music: Music, whole: list[Block]) -> None:
    assert np.array_equal(joined(whole), joined(blocks(music, job())))
    other = joined(blocks(music, job(seed=4)))
    assert not np.allclose(joined(whole), other, atol=0.01)


def test_a_new_engine_makes_the_same_samples(whole: list[Block]) -> None:
    engine = Music()
    engine.load("cpu", MemoryPolicy())
    assert np.array_equal(joined(whole[:6]), joined(blocks(engine, job(), limit=6)))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(start_frame=st.integers(0, round(SECONDS * RATE_HZ) - 1))
def test_any_start_frame_gives_the_blocks_of_the_full_run_bit_by_bit(
    music: Music, whole: list[Block], start_frame: int
) -> None:
    made = blocks(music, job(start_frame=start_frame), limit=2)
    assert made[0].first_frame <= start_frame < made[0].first_frame + len(made[0].pcm)
    for block in made:
        full = whole[block.first_frame // BLOCK]
        assert full.first_frame == block.first_frame
        assert np.array_equal(full.pcm, block.pcm)


@pytest.mark.parametrize(
    "prompt", ["calm ambient choir and bells", "jazz quartet in Bb", "waltz for strings, no drums"]
)
def test_a_start_in_the_middle_equals_the_full_run_in_every_style(music: Music, prompt: str) -> None:
    full = joined(blocks(music, job(prompt)))
    late = joined(blocks(music, job(prompt, start_frame=9 * BLOCK + 1)))
    assert np.array_equal(full[9 * BLOCK :], late)


@pytest.mark.parametrize("start_frame", [round(SECONDS * RATE_HZ), round(SECONDS * RATE_HZ) + 5])
def test_a_start_at_the_end_has_nothing_to_play_but_is_done(music: Music, start_frame: int) -> None:
    events = list(music.generate([music.validate(job(start_frame=start_frame))]))
    assert [type(event) for _, event in events] == [Done]


def test_two_pieces_made_in_turns_do_not_disturb_each_other(music: Music, whole: list[Block]) -> None:
    first = music.generate([music.validate(job())])
    second = music.generate([music.validate(job("sad violin in E minor"))])
    mixed: tuple[list[Block], list[Block]] = ([], [])
    for (_, left), (_, right) in zip(first, second, strict=True):
        for made, event in zip(mixed, (left, right), strict=True):
            if isinstance(event, Block):
                made.append(event)
    assert np.array_equal(joined(mixed[0]), joined(whole))
    assert np.array_equal(joined(mixed[1]), joined(blocks(music, job("sad violin in E minor"))))


def test_a_batch_plays_each_job_as_if_alone_and_drops_a_cancelled_one(music: Music, whole: list[Block]) -> None:
    jobs = [music.validate(job()), music.validate(job("quiet flute solo", seed=9))]
    made: list[Block] = []
    done = []
    for index, event in music.generate(jobs):
        if index == 1 and isinstance(event, Block) and event.first_frame == 2 * BLOCK:
            jobs[1].cancel.cancelled = True
        if index == 0 and isinstance(event, Block):
            made.append(event)
        elif isinstance(event, Done):
            done.append(index)
        else:
            assert isinstance(event, Block)
            assert event.first_frame <= 2 * BLOCK
    assert done == [0]
    assert np.array_equal(joined(made), joined(whole))


def test_the_hosts_number_of_threads_changes_no_sample_and_is_left_as_it_was(whole: list[Block]) -> None:
    import torch

    before = torch.get_num_threads()
    by_threads: dict[int, list[Block]] = {1: [], 2: [], 3: []}
    try:
        for num_threads, made in by_threads.items():
            torch.set_num_threads(num_threads)
            engine = Music()
            engine.load("cpu", MemoryPolicy())
            for _, event in itertools.islice(engine.generate([engine.validate(job(start_frame=8 * BLOCK))]), 5):
                assert isinstance(event, Block)
                assert torch.get_num_threads() == num_threads
                assert not torch.is_inference_mode_enabled()
                made.append(event)
    finally:
        torch.set_num_threads(before)
    for made in by_threads.values():
        assert np.array_equal(joined(made), joined(whole[8:13]))


@pytest.mark.parametrize("seconds", [1, 1.00001, 1.7, 2.5, 3, 4.2, 7.77])
def test_the_length_is_exact_and_the_blocks_are_contiguous(music: Music, seconds: float) -> None:
    made = blocks(music, job(seconds=seconds))
    assert sum(len(block.pcm) for block in made) == round(seconds * RATE_HZ)
    assert [block.first_frame for block in made] == [BLOCK * index for index in range(len(made))]
    assert all(len(block.pcm) == BLOCK for block in made[:-1])
    assert all(block.pcm.dtype == np.float32 and block.pcm.shape[1] == 2 for block in made)


def test_ten_hours_start_anywhere_and_keep_no_more_than_a_few_sections(music: Music) -> None:
    last_second = job(seconds=36_000, start_frame=36_000 * RATE_HZ - RATE_HZ)
    made = blocks(music, last_second)
    assert made[-1].first_frame + len(made[-1].pcm) == 36_000 * RATE_HZ
    piece = plan("happy pop", 1)
    scores = Scores(piece, Form(36_000.0, 60 / piece.bpm, piece.beats, 0.3), RATE_HZ)
    for second in range(0, 3_600, 7):
        assert scores.between(float(second), second + 0.5).notes
        assert scores.num_kept <= 4


def test_done_has_tempo_key_form_and_players(music: Music) -> None:
    wanted = job("folk song in D minor, 100 bpm, flute and guitar", seconds=30, start_frame=29 * RATE_HZ)
    facts = next(event for _, event in music.generate([music.validate(wanted)]) if isinstance(event, Done)).facts
    assert (facts["bpm"], facts["key"], facts["mode"]) == (100.0, "D", "minor")
    assert {"flute", "nylon guitar"} <= set(facts["instruments"])
    starts = [section["start_s"] for section in facts["form"]]
    assert starts[0] == 0.0
    assert starts == sorted(set(starts))
    assert [section["name"] for section in facts["form"]][-2:] == ["outro", "end"]


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"input": "pop!"}, "input", "has 5 letters, or 2 of Han, kana or Hangul, not 'pop!'"),
        ({"input": "....."}, "input", "has 5 letters"),
        ({"input": "乐"}, "input", "has 5 letters"),
        ({"input": "p" * 2_001}, "input", "at most 2000 characters, this one 2001"),
        ({"input": " " * 9}, "input", "has 5 letters"),
        ({"input": "happy\x07 pop"}, "input", r"U\+0007 at 5"),
        ({"params": {"seconds": 0.5}}, "params.seconds", "from 1 to 36000, not 0.5"),
        ({"params": {"seconds": float("nan")}}, "params.seconds", "not nan"),
        ({"params": {"bpm": 301}}, "params.bpm", "from 30 to 300, not 301"),
        ({"params": {"key": "H flat"}}, "params.key", "not 'H flat'"),
    ],
)
def test_a_job_at_fault_is_refused_with_the_limit_and_the_value(
    change: dict[str, object], path: str, reason: str
) -> None:
    fields: dict[str, object] = {"id": "m1", "input": "happy pop", **change}
    with pytest.raises(Rejected, match=reason) as refused:
        Music().validate(EngineJob(**fields))  # type: ignore[arg-type]
    assert refused.value.path == path


def test_validate_fills_in_the_length_and_the_schema_accepts_its_limits() -> None:
    engine = Music()
    schema = dict(engine.capabilities().param_schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert engine.validate(EngineJob(id="m1", input="happy pop")).params == {"seconds": 30.0}
    jsonschema.validate({"seconds": 36_000, "bpm": 40, "key": "Bb minor"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tempo": 120}, schema)


def test_the_estimate_counts_the_audio_that_is_left_to_make() -> None:
    engine = Music()
    fresh, late = (engine.estimate(job(start_frame=frame)) for frame in (0, 8 * RATE_HZ))
    assert fresh.seconds == late.seconds == SECONDS
    assert 0 < late.cost_s < fresh.cost_s / 5


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("C Major", (0, "major")),
        ("Am", (9, "minor")),
        ("B-flat Major", (10, "major")),
        ("f# minor", (6, "minor")),
        ("F sharp minor", (6, "minor")),
        ("Bbm", (10, "minor")),
        ("C", (0, None)),
        ("Eb", (3, None)),
        ("D dorian", (2, "dorian")),
    ],
)
def test_a_key_in_any_usual_spelling(key: str, expected: tuple[int, str | None]) -> None:
    assert parse_key(key) == expected
    schema = Music().capabilities().param_schema["properties"]["key"]
    assert re.search(schema["pattern"], key)


@pytest.mark.parametrize("key", ["H", "C minorr", "A flat sharp", "", "Cis"])
def test_what_is_no_key_is_refused_by_the_schema_too(key: str) -> None:
    with pytest.raises(ValueError, match="a key is a letter"):
        parse_key(key)
    assert not re.search(Music().capabilities().param_schema["properties"]["key"]["pattern"], key)


@pytest.mark.parametrize("prompt", ["calm piano\n", "calm\npiano", "爵士乐", "ジャズ", "재즈", " happy pop  "])
def test_blanks_and_line_breaks_are_no_fault_of_a_prompt_and_two_of_han_are_enough(prompt: str) -> None:
    assert Music().validate(EngineJob(id="m", input=prompt)).input == " ".join(prompt.split())


@pytest.mark.parametrize(("metre", "beats", "name"), [(2, 2, "2/4"), (3, 3, "3/4"), (4, 4, "4/4"), (6, 3, "6/8")])
def test_the_metre_is_obeyed(music: Music, metre: int, beats: int, name: str) -> None:
    assert plan("happy pop", 1, metre=metre).beats == beats
    wanted = job("happy pop", seconds=3, metre=metre)
    done = next(event for _, event in music.generate([music.validate(wanted)]) if isinstance(event, Done))
    assert done.facts["metre"] == name


@pytest.mark.parametrize("metre", [2, 3, 4, 6])
def test_every_bar_is_full_and_no_note_of_it_begins_behind_it(metre: int) -> None:
    for style in STYLES:
        piece = plan(f"{style} music with drums and a flute", 3, metre=metre)
        form = Form(40.0, 60 / piece.bpm, piece.beats, 0.0)
        for bar in range(form.bars):
            section = form.section_at_bar(bar)
            if section.first_bar == bar:
                scene = make_scene(piece, section)
                beats = [harmony.beats for harmony in scene.harmonies]
                assert sum(beats) == pytest.approx(section.bars * piece.beats)
                notes = [
                    note for role in ("lead", "chords", "bass") if role in piece.voices for note in _notes(scene, role)
                ]
                assert all(0 <= note.beat < section.bars * piece.beats for note in notes)
                assert {round(stroke.beat, 6) for stroke in write_drums(scene)} <= {
                    step / 4 for step in range(4 * piece.beats * section.bars)
                }


def _notes(scene: Scene, role: str) -> list[WrittenNote]:
    return list(write_lead(scene) if role == "lead" else WRITERS[role](scene))


@pytest.mark.parametrize(("metre", "accents"), [(2, {0.0}), (3, {0.0}), (6, {0.0, 1.5})])
def test_the_bass_begins_the_groups_of_a_bar(metre: int, accents: set[float]) -> None:
    piece = plan("happy pop with bass", 1, metre=metre)
    section = Form(60.0, 60 / piece.bpm, piece.beats, 0.0).section_at_bar(12)
    beats = {round(note.beat % piece.beats, 6) for note in _notes(make_scene(piece, section), "bass")}
    assert accents <= beats
    if metre == 6:
        assert beats == accents
