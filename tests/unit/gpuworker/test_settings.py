"""Options of engines in a worker's settings: where they come from, which one wins, how a wrong one is refused."""

from pathlib import Path

import msgspec
import pytest

from bus.quality import Limits
from bus.settings import SettingsError, load
from gpuworker import registry
from gpuworker.settings import WorkerSettings
from gpuworker.worker.serve import describe


def settings(tmp_path: Path, text: str = "", *flags: str) -> WorkerSettings:
    file = tmp_path / "antiphon.toml"
    file.write_text(text)
    return load(WorkerSettings, {"engine_option": list(flags)}, {}, file)


def test_a_table_of_the_file_holds_the_options_of_one_engine(tmp_path: Path) -> None:
    loaded = settings(tmp_path, "[engines.tone]\nallow_faults = true\n[engines.music]\nstyle = 'x'")
    assert loaded.options_of("tone") == {"allow_faults": True}
    assert loaded.options_of("music") == {"style": "x"}
    assert loaded.options_of("speech") == {}
    assert loaded.configured_engines == {"tone", "music"}


def test_a_flag_wins_over_the_table_and_the_last_flag_over_the_first(tmp_path: Path) -> None:
    flags = ("tone.allow_faults=false", "music.url=http://x/?a=b,c", "tone.allow_faults=true")
    loaded = settings(tmp_path, "[engines.tone]\nallow_faults = false\nother = 1", *flags)
    assert loaded.options_of("tone") == {"allow_faults": "true", "other": 1}
    assert loaded.options_of("music") == {"url": "http://x/?a=b,c"}


def test_a_table_within_an_engines_table_is_a_model_of_its_own(tmp_path: Path) -> None:
    text = "[engines.upstream.qwen]\nurl = 'http://a'\nrate_hz = 24000\n[engines.upstream.music]\nurl = 'http://b'"
    loaded = settings(tmp_path, text, "upstream.qwen.url=http://c/?a.b=1", "upstream.new-one.url=http://d")
    loaded = msgspec.structs.replace(loaded, models=("tone", "upstream"))
    assert loaded.options_of("upstream") == {
        "qwen": {"url": "http://c/?a.b=1", "rate_hz": 24000},
        "music": {"url": "http://b"},
        "new-one": {"url": "http://d"},
    }
    assert loaded.engine_of("music") == ("upstream", {"url": "http://b"})
    assert loaded.engine_of("tone") == ("tone", {})
    assert [each.model for each in registry.served("upstream", loaded.options_of("upstream"))] == [
        "qwen",
        "music",
        "new-one",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "engines.upstream: names no model; write a table"),
        ("[engines.upstream]\nurl = 'http://a'", "engines.upstream.url: is no table; options belong to"),
        ("[engines.upstream.tone]\nurl = 'http://a'", "two models of this worker are called 'tone'"),
        ("[engines.upstream.x]\nurl = 'http://a:99999'", "engines.upstream.x: Port out of range"),
        ("[engines.upstream.x]\nmodel = 'y'", "engines.upstream.x: url: is missing"),
        ("[engines.upstream.'a b']\nurl = 'http://a'", "engines.upstream: 'a b' is no name of a model"),
    ],
)
def test_tables_of_models_that_are_wrong_end_the_worker_at_its_start(tmp_path: Path, text: str, message: str) -> None:
    loaded = msgspec.structs.replace(settings(tmp_path, text), models=("tone", "upstream"))
    with pytest.raises(SettingsError) as refusal:
        describe(loaded)
    assert str(refusal.value).startswith(message)


def test_without_a_flag_the_variable_holds() -> None:
    environ = {"ANTIPHON_ENGINE_OPTION": "tone.allow_faults=true, music.a=1"}
    loaded = load(WorkerSettings, {"engine_option": []}, environ)
    assert loaded.configured_engines == {"tone", "music"}


@pytest.mark.parametrize("flag", ["tone", "tone.allow_faults", "tone=true", ".allow_faults=true", "a b.c=1"])
def test_a_flag_that_is_no_assignment_is_refused(tmp_path: Path, flag: str) -> None:
    with pytest.raises(SettingsError, match=r"--engine-option: '.*': must be like tone\.allow_faults=true"):
        settings(tmp_path, "", flag)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"engines in .*antiphon\.toml"):
        settings(tmp_path, "[engines]\ntone = 3")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("tone.allow_fault=true", r"unknown option engines\.tone\.allow_fault; did you mean 'allow_faults'\?"),
        ("tone.allow_faults=perhaps", r"engines\.tone\.allow_faults: 'perhaps': expected `bool`"),
        ("tnoe.allow_faults=true", r"options of an unknown engine: engines\.tnoe; did you mean 'tone'\?"),
    ],
)
def test_a_worker_refuses_options_that_its_engine_does_not_have(flag: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        describe(WorkerSettings(models=("tone",), engine_option=(flag,)))


def test_an_option_reaches_the_engine() -> None:
    def takes_faults(*flags: str) -> bool:
        card = describe(WorkerSettings(models=("tone",), engine_option=flags)).cards["tone"]
        return "fault" in card.param_schema["properties"]

    assert takes_faults("tone.allow_faults=true")
    assert not takes_faults()


def test_values_of_options_are_not_logged_with_the_settings(tmp_path: Path) -> None:
    loaded = settings(tmp_path, "[engines.tone]\napi_key = 'hunter2'", "music.api_key=hunter3")
    assert "engines=['music', 'tone']" in repr(loaded)
    assert "hunter" not in repr(loaded)
    assert "slots=8" in repr(loaded)


def test_an_operators_limits_of_quality_replace_those_of_the_engine(tmp_path: Path) -> None:
    loaded = settings(tmp_path, "[quality.speech]\nmax_repeats = 5\n[quality.tone]\nmax_gap_s = 1.5")
    cards = describe(msgspec.structs.replace(loaded, models=("tone", "speech"))).cards
    assert cards["speech"].quality is not None
    assert (cards["speech"].quality.max_repeats, cards["speech"].quality.max_end_dbfs) == (5, -35)
    assert cards["tone"].quality == Limits(max_gap_s=1.5)


def test_an_operator_switches_measuring_off(tmp_path: Path) -> None:
    loaded = settings(tmp_path, "[quality.speech]\nmeasured = false")
    assert describe(msgspec.structs.replace(loaded, models=("speech",))).cards["speech"].quality is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[quality.tone]\nmax_gap = 1", "unknown option quality.tone.max_gap; did you mean 'max_gap_s'?"),
        ("[quality.tone]\nmax_gap_s = -1", "quality.tone.max_gap_s: -1: expected `float` >= 0"),
        ("[quality.tune]\nmax_gap_s = 1", "limits of an unknown model: quality.tune; did you mean 'tone'?"),
        ("[quality]\ntone = 1", "quality in "),
    ],
)
def test_a_wrong_limit_of_quality_ends_the_worker_at_its_start(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        describe(msgspec.structs.replace(settings(tmp_path, text), models=("tone",)))
    assert message in str(error.value)
