"""Settings: flags over variables over the file, nothing unknown, nothing out of range, no secret in a message."""

from pathlib import Path
from typing import Annotated, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.settings import BusSettings, SettingsError, field_types, load, redacted
from gateway.settings import GatewaySettings
from gpuworker.settings import WorkerSettings
from ops.settings import UpSettings, read

SECRET = "hunter2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "antiphon.toml"
    path.write_text('slots = 2\nnats = "nats://file:1"\nmodels = ["tone"]\nack_wait_s = 7\n')
    return path


def test_every_setting_has_a_default() -> None:
    assert load(GatewaySettings, {}, {}) == GatewaySettings()
    assert load(BusSettings, {}, {}) == BusSettings()


def test_defaults_are_within_their_own_limits() -> None:
    for kind in (BusSettings, GatewaySettings, WorkerSettings, UpSettings):
        defaults = kind()
        assert msgspec.convert(msgspec.to_builtins(defaults), kind) == defaults


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(file: Path) -> None:
    environ = {"ANTIPHON_SLOTS": "3", "ANTIPHON_NATS": "nats://variable:1"}
    settings = load(WorkerSettings, {"slots": "4", "nats": None}, environ, file)
    assert settings.slots == 4
    assert settings.bus.nats == "nats://variable:1"
    assert settings.bus.ack_wait_s == 7.0
    assert settings.models == ("tone",)


@pytest.mark.parametrize(("given", "models"), [("tone", ("tone",)), ("tone, speech,", ("tone", "speech"))])
def test_a_list_is_separated_by_commas(given: str, models: tuple[str, ...]) -> None:
    assert load(WorkerSettings, {"models": given}, {}).models == models


@pytest.mark.parametrize(("given", "value"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_a_variable_may_set_a_switch(given: str, value: bool) -> None:
    assert load(WorkerSettings, {}, {"ANTIPHON_ALLOW_FAULTS": given}).allow_faults is value


def test_an_unknown_variable_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting ANTIPHON_SLOST; did you mean ANTIPHON_SLOTS\?"):
        load(WorkerSettings, {}, {"ANTIPHON_SLOST": "3"})


def test_an_unknown_line_of_the_file_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("slost = 3")
    with pytest.raises(SettingsError, match=r"unknown setting slost in .*a\.toml; did you mean slots in .*a\.toml\?"):
        load(WorkerSettings, {}, {}, path)


def test_a_name_that_resembles_none_gets_no_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"^unknown setting ANTIPHON_QQQQQQ$"):
        load(WorkerSettings, {}, {"ANTIPHON_QQQQQQ": "3"})


def test_variables_of_other_processes_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLOTS": "3", "PORT": "81", "WORKERS": "2", "URL": "http://x", "STATE": "/s"}.items():
        monkeypatch.setenv(f"ANTIPHON_{name}", value)
    assert read(GatewaySettings, {}).port == 81
    assert read(WorkerSettings, {}).slots == 3
    assert read(UpSettings, {}).workers == 2


def test_the_file_may_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("ANTIPHON_CONFIG", str(file))
    assert read(WorkerSettings, {}).slots == 2


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("slots", "0", ">= 1"),
        ("slots", "1025", "<= 1024"),
        ("slots", "many", "`int`"),
        ("ack_wait_s", "nan", "> 0"),
        ("ack_wait_s", "inf", "<= 2592000"),
        ("root", "Upper", "a-z 0-9 -"),
        ("root", "a" * 33, "a-z 0-9 -"),
        ("root", "good\n", "a-z 0-9 -"),
        ("nats", "http://127.0.0.1", "nats://127.0.0.1:4222"),
        ("id", "a.b", "A-Z a-z 0-9 _ -"),
    ],
)
def test_a_bad_value_is_refused_by_name_value_and_limit(name: str, value: str, limit: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(WorkerSettings, {}, {f"ANTIPHON_{name.upper()}": value})
    message = str(refused.value)
    assert message.startswith(f"ANTIPHON_{name.upper()}: ")
    assert limit in message
    assert str(value.split()) in message or repr(value) in message or "()" in message


def test_a_file_that_cannot_be_read_or_is_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere\.toml: No such file"):
        load(WorkerSettings, {}, {}, tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("slots =")
    with pytest.raises(SettingsError, match=r"bad\.toml is not TOML"):
        load(WorkerSettings, {}, {}, tmp_path / "bad.toml")


@given(user=st.from_regex(r"[a-z0-9]{0,5}", fullmatch=True), host=st.from_regex(r"[a-z0-9.]{1,9}", fullmatch=True))
def test_a_password_never_survives_redaction_and_the_host_always_does(user: str, host: str) -> None:
    for url in (f"nats://{user}:{SECRET}@{host}:4222", f"tls://{SECRET}@{host}"):
        hidden = redacted(f"{url},{url}")
        assert SECRET not in hidden
        assert hidden.count(f"@{host}") == 2


@pytest.mark.parametrize("password", ["a/b", "p@ss", "a,b", "a:b", "x%2F", "a?b#c"])
def test_a_password_with_the_characters_of_a_url_is_hidden_too(password: str) -> None:
    assert redacted(f"nats://me:{password}@host:4222") == "nats://me:***@host:4222"


def test_redaction_leaves_a_url_without_a_secret_as_it_is() -> None:
    assert redacted("nats://127.0.0.1:4222,nats://b:1") == "nats://127.0.0.1:4222,nats://b:1"


def test_a_password_is_in_no_repr_and_no_error() -> None:
    url = f"nats://me:{SECRET}@host:4222"
    assert SECRET not in repr(load(GatewaySettings, {"nats": url}, {}))
    with pytest.raises(SettingsError) as refused:
        load(GatewaySettings, {"nats": f"{url},nonsense"}, {})
    assert SECRET not in str(refused.value)
    assert "host:4222" in str(refused.value)


def test_a_setting_of_two_processes_has_one_type() -> None:
    """`slots` of `up` and of a worker are one line of the file they share."""
    seen: dict[str, object] = {}
    for kind in (GatewaySettings, WorkerSettings, UpSettings):
        for name, annotated in field_types(kind).items():
            plain = get_args(annotated)[0] if get_origin(annotated) is Annotated else annotated
            assert seen.setdefault(name, plain) == plain, name


def test_workers_without_an_id_get_different_ones() -> None:
    assert load(WorkerSettings, {}, {}).id != load(WorkerSettings, {}, {}).id
