"""The voices of the engine `piper`: which files are one, how they are found, and what is said about the others."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bus.voices import files_digest
from gpuworker import registry
from gpuworker.conformance.driving import checked, run
from gpuworker.engine import EngineJob, MemoryPolicy, Rejected, TextLost
from gpuworker.engines.networks import model_file
from gpuworker.engines.networks.model_file import Unusable
from gpuworker.engines.piper.engine import Piper
from gpuworker.engines.piper.installed import describe
from gpuworker.engines.piper.voices import read_folder
from gpuworker.engines.reading import front_ends
from tests.engines.texts import STORY
from tests.support import assets, piper_voice
from tests.support.piper_voice import RATE_HZ, random_voices

pytestmark = pytest.mark.slow

JOB = EngineJob(id="j", input=STORY, voice="en_US-random-low", seed=3)


def made(folder: Path, **options: object) -> Piper:
    """An engine with the voices of `folder`, as a worker makes it."""
    engine = registry.make("piper", {"voices": str(folder), **options})
    assert isinstance(engine, Piper)
    return engine


def test_speakers_of_a_voice_are_voices(piper: Piper) -> None:
    ids = [voice.id for voice in piper.capabilities().voices]
    assert {"en_US-two-low", "en_US-two-low+ann", "en_US-two-low+bob"} <= set(ids)
    sounds = {
        name: run(piper, replace(JOB, voice=f"en_US-two-low{name}")).pcm.tobytes() for name in ("", "+ann", "+bob")
    }
    assert sounds[""] == sounds["+ann"] != sounds["+bob"]


@pytest.mark.parametrize(
    ("name", "voice"),
    [
        ("EN_us-RANDOM-low", "en_US-random-low"),
        ("en_US-random", "en_US-random-low"),
        ("de_DE", "de_DE-random-low"),
        ("en_us-two-low+BOB", "en_US-two-low+bob"),
    ],
)
def test_a_voice_is_found_by_any_case_and_by_its_beginning(piper: Piper, name: str, voice: str) -> None:
    assert checked(piper, replace(JOB, voice=name)).voice == voice


@pytest.mark.parametrize("name", ["en_US-two-low+carl", "en_US-random-low+bob", "en_US-rand"])
def test_an_unknown_voice_is_refused_with_a_suggestion(piper: Piper, name: str) -> None:
    with pytest.raises(Rejected, match=r"is not known.*en_US-") as refusal:
        checked(piper, replace(JOB, voice=name))
    assert refusal.value.path == "voice"


def test_at_most_so_many_voices_are_in_memory() -> None:
    engine = made(random_voices(), max_loaded=1)
    engine.load("cpu", MemoryPolicy())
    try:
        for voice in ("de_DE-random-low", "en_US-random-low", "de_DE-random-low"):
            assert run(engine, replace(JOB, voice=voice)).end_frame
            assert engine.loaded_voices == [voice]
    finally:
        engine.unload()


@pytest.mark.parametrize("ending", ["", ".json"])
def test_a_voice_whose_file_was_changed_since_it_was_read_is_not_spoken(tmp_path: Path, ending: str) -> None:
    """Its digest is part of the jobs that were accepted with it. A voice that is in memory already goes on."""
    piper_voice.write(tmp_path, "de_DE-one-low", language="de")
    other = piper_voice.write(tmp_path, "de_DE-two-low", language="de")
    engine = made(tmp_path)
    engine.load("cpu", MemoryPolicy())
    try:
        for voice in ("de_DE-one-low", "de_DE-two-low"):
            changed = tmp_path / f"{voice}.onnx{ending}"
            changed.write_bytes(changed.read_bytes() + b" ")
        assert run(engine, replace(JOB, voice="de_DE-one-low")).end_frame
        with pytest.raises(Unusable, match=f"{other.name} or its JSON was changed"):
            run(engine, replace(JOB, voice="de_DE-two-low"))
    finally:
        engine.unload()


def test_without_a_folder_it_speaks_with_the_voices_of_its_jobs(tmp_path: Path) -> None:
    engine = registry.make("piper")
    assert engine.capabilities().voices == ()
    engine.load("cpu", MemoryPolicy())
    engine.warm_up()
    try:
        for voice, says in (("x", "'x' is not known"), ("", "antiphon voices install")):
            with pytest.raises(Rejected, match=says):
                engine.validate(EngineJob(id="j", input="Hi.", voice=voice))
        made_of = []
        for seed in range(2):  # two voices of one name
            path = piper_voice.write(tmp_path / str(seed), "en_US-joe-low", seed=seed)
            files = {"en_US-joe-low": {each.name: str(each) for each in path.parent.iterdir()}}
            digest = describe("en_US-joe-low", path.parent).voices[0].sha256
            job = replace(JOB, voice="en_US-joe-low", voice_files=files, voice_digests={"en_US-joe-low": digest})
            made_of.append(run(engine, job).pcm.tobytes())
        assert made_of[0] != made_of[1]
    finally:
        engine.unload()


def test_a_folder_without_a_voice_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"no usable voice in {tmp_path}: it has no file NAME.onnx"):
        made(tmp_path).load("cpu", MemoryPolicy())
    with pytest.raises(RuntimeError, match="nowhere: it is no folder"):
        made(tmp_path / "nowhere").load("cpu", MemoryPolicy())


def test_without_espeak_it_speaks_us_english_and_leaves_out_other_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_ends, "find_espeak", lambda: None)
    engine = made(random_voices())
    languages = {voice.language for voice in engine.capabilities().voices}
    assert languages == {"en-us"}
    assert "GPL" not in engine.capabilities().licence
    with pytest.raises(Rejected, match=r"needs? espeak-ng.*antiphon\[espeak\]"):
        checked(engine, replace(JOB, voice="de_DE-random-low"))
    engine.load("cpu", MemoryPolicy())
    try:
        assert run(engine, JOB).end_frame > RATE_HZ
        assert engine.helper_pids == []
        with pytest.raises(TextLost, match="漢字"):
            run(engine, replace(JOB, input="It is 漢字."))
    finally:
        engine.unload()


# Bad files


def no_json(path: Path) -> None:
    Path(f"{path}.json").unlink()


def broken_json(path: Path) -> None:
    Path(f"{path}.json").write_text('{"audio": ')


def json_of_something_else(path: Path) -> None:
    Path(f"{path}.json").write_text('{"name": "mouse"}')


def no_ids(path: Path) -> None:
    change(path, phoneme_id_map={"a": [14]})


def other_rate(path: Path) -> None:
    change(path, audio={"sample_rate": 16_000})


def impossible_rate(path: Path) -> None:
    change(path, audio={"sample_rate": 0})


def speakers_that_are_not_there(path: Path) -> None:
    change(path, num_speakers=3)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_onnx(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 63201294\n")


def another_model(path: Path) -> None:
    named = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", named[:1], named[1:])
    onnx.save(helper.make_model(graph), str(path))


def ten_gigabytes(path: Path) -> None:
    os.truncate(path, 10 * 2**30)


def change(path: Path, **values: object) -> None:
    about = Path(f"{path}.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), **values}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_json, r"bad\.onnx\.json is missing"),
        (broken_json, r"bad\.onnx\.json is not JSON"),
        (json_of_something_else, r"bad\.onnx\.json has no phoneme_id_map"),
        (no_ids, r"bad\.onnx\.json: phoneme_id_map lacks \^, _, \$"),
        (other_rate, r"bad\.onnx has 16000 Hz, and this worker serves voices of 22050 Hz: set engines\.piper\.rate_hz"),
        (impossible_rate, r"audio\.sample_rate is 0, not between 8000 and 192000"),
        (speakers_that_are_not_there, r"disagree whether the voice has several speakers"),
        (truncated, r"bad\.onnx is not a whole ONNX file: \d+ bytes are missing"),
        (empty, r"bad\.onnx is empty"),
        (no_onnx, r"bad\.onnx is not a whole ONNX file"),
        (another_model, r"bad\.onnx is not a Piper voice: its inputs are x"),
        (ten_gigabytes, r"bad\.onnx has 10737418240 bytes; an ONNX file has at most 2147483647"),
    ],
)
def test_a_bad_voice_costs_itself_only_and_the_error_names_the_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object, reason: str
) -> None:
    piper_voice.write(tmp_path, "good")
    assert callable(damage)
    damage(piper_voice.write(tmp_path, "bad"))
    engine = made(tmp_path)
    assert [voice.id for voice in engine.capabilities().voices] == ["good"]
    engine.load("cpu", MemoryPolicy())
    try:
        assert run(engine, replace(JOB, voice="")).end_frame
        with pytest.raises(Rejected, match=reason) as refusal:
            checked(engine, replace(JOB, voice="bad"))
        assert refusal.value.path == "voice"
        assert [record for record in caplog.records if "bad" in record.getMessage()]
    finally:
        engine.unload()


def test_a_voice_damaged_inside_fails_its_job_and_no_other(tmp_path: Path) -> None:
    """The walk over the fields skips the weights and what nodes do; that is found when the voice is loaded."""
    piper_voice.write(tmp_path, "good")
    path = piper_voice.write(tmp_path, "strange")
    model = onnx.load(str(path))
    (node,) = [node for node in model.graph.node if node.name == "/Mul_5"]
    node.op_type = "Sub"
    onnx.save(model, str(path))
    assert len(model_file.outline(path).inputs) == 3
    engine = made(tmp_path)
    engine.load("cpu", MemoryPolicy())
    try:
        with pytest.raises(Unusable, match=r"strange\.onnx is not a Piper voice: its noise is not added to a mean"):
            run(engine, replace(JOB, voice="strange"))
        assert run(engine, replace(JOB, voice="good")).end_frame
    finally:
        engine.unload()


def test_the_card_has_the_digest_of_a_voices_files(tmp_path: Path) -> None:
    piper_voice.write(tmp_path, "good")
    first = made(tmp_path).capabilities().voices[0]
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    assert first.sha256 == files_digest(digests)
    about = tmp_path / "good.onnx.json"
    about.write_text(about.read_text() + " ")
    assert made(tmp_path).capabilities().voices[0].sha256 != first.sha256


def test_two_voices_of_one_name_are_one_voice_and_a_reason(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        piper_voice.write(tmp_path / folder, "same")
    found = read_folder(tmp_path, RATE_HZ)
    assert list(found.voices) == ["same"]
    assert "has the name of another voice" in found.unusable["same"]


# The bound on a model's card


@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("text", [STORY, "1234567890 987654321", "wow WOW www", "a. b. c. d.", "$4.50 and 12%", "漢字"])
def test_a_published_voice_speaks_no_longer_than_its_bound(text: str, speed: float) -> None:
    engine = made(assets.piper_joe().parent)
    engine.load("cpu", MemoryPolicy())
    try:
        params = {"speed": speed, "rhythm": 1.0}
        job = checked(engine, EngineJob(id="j", input=text, params=params))
        bound = engine.capabilities().bound
        assert bound is not None
        assert run(engine, job).end_frame / RATE_HZ <= bound.seconds(text, job.voice, job.params)
    finally:
        engine.unload()
