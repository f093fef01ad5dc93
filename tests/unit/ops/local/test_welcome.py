"""The text that `antiphon up` ends with in a terminal: the address, three things to try, how to stop."""

import pytest

from bus.settings import LogFormat, LogLevel
from ops.local.stack import welcome
from ops.settings import UpSettings

HTTP, NATS = "http://127.0.0.1:8081", "nats://127.0.0.1:4223"


@pytest.mark.parametrize(
    ("models", "begins"),
    [
        (("speech", "music", "tone"), 'say "Hello from Antiphon." -o hello.wav --url http://127.0.0.1:8081'),
        (("music",), 'compose "a calm evening" --seconds 20 -o evening.wav --url http://127.0.0.1:8081'),
        (("tone",), "fleet --url http://127.0.0.1:8081"),
    ],
)
def test_it_has_the_address_three_things_to_try_and_how_to_stop(models: tuple[str, ...], begins: str) -> None:
    text = welcome(HTTP, NATS, models, require_keys=False)
    lines = text.strip().splitlines()
    assert lines[0].startswith(f"Antiphon listens at {HTTP} ")
    tried = text.partition("try:")[2].partition("stop:")[0].replace("\\\n", "")
    assert len([line for line in tried.splitlines() if line.strip()]) == 3
    assert begins in tried
    assert f'"model":"{models[0]}"' in tried
    assert f"{HTTP}/docs" in tried
    assert lines[-1] == "  stop:  Ctrl-C"
    assert "keys create" not in text


def test_with_keys_the_first_step_is_to_make_one() -> None:
    text = welcome(HTTP, NATS, ("speech",), require_keys=True)
    assert text.index(f"keys create --tenant me --nats {NATS}") < text.index("try:")
    assert "Bearer $ANTIPHON_API_KEY" in text


@pytest.mark.parametrize(
    ("is_terminal", "level", "form", "shown"),
    [
        (True, "info", "auto", "warning"),
        (True, "info", "console", "info"),
        (True, "debug", "auto", "debug"),
        (False, "info", "auto", "info"),
    ],
)
def test_a_terminal_shows_no_info_lines_after_it_unless_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, level: LogLevel, form: LogFormat, shown: str, *, is_terminal: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    assert UpSettings(log_level=level, log_format=form).shown_level == shown
