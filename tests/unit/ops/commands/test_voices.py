"""The question whether a licence is accepted."""

import io
from pathlib import Path

import pytest

from ops.commands import voices
from ops.commands.voice_source import licence_in
from ops.errors import OpsError, UsageRefused
from ops.local.installable import describe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def request(*, is_agreed: bool = False) -> voices.Request:
    return voices.Request("piper", "joe", "/voices", "", Path("/cache"), is_agreed=is_agreed)


@pytest.mark.parametrize("answer", ["y\n", "Yes\n"])
def test_a_yes_accepts_it(answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    voices.ask(request(), "CC0-1.0")
    assert "CC0-1.0" in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "what\n"])
def test_anything_else_does_not(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with pytest.raises(OpsError, match="not accepted; nothing is installed"):
        voices.ask(request(), "CC0-1.0")


def test_without_a_terminal_the_flag_is_needed_and_the_text_is_shown_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageRefused, match="--yes"):
        voices.ask(request(), "")
    voices.ask(request(is_agreed=True), "\n".join(f"line {number}" for number in range(60)))
    shown = capsys.readouterr().err
    assert "No text of a licence is beside the voice" in shown
    assert "20 lines more" in shown


def test_the_text_of_a_licence_is_found_beside_the_voice(tmp_path: Path) -> None:
    assert licence_in(tmp_path) == ""
    (tmp_path / "LICENSE").write_text("the licence")
    assert licence_in(tmp_path) == "the licence"
    (tmp_path / "MODEL_CARD").write_bytes(b"the card \xff")
    assert licence_in(tmp_path).startswith("the card")


def test_no_licence_moves_the_cursor_of_the_terminal_that_shows_it(tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD").write_text("Free\x1b[2J\x1b[1A\u202e for all.\r\nSecond\x9b31m line.")
    assert licence_in(tmp_path) == "Free[2J[1A for all.\nSecond31m line."


def test_without_the_packages_of_its_engine_the_command_that_installs_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.local.models._importable", lambda name: name != "onnx")
    with pytest.raises(
        OpsError, match=r"^piper: onnx is not installed; get it with: .*'antiphon\[piper\]', then restart"
    ):
        describe("piper", "joe", tmp_path)


def test_a_model_that_takes_no_voices_is_refused(tmp_path: Path) -> None:
    for model, reason in (("tone", "tone takes no voices of yours"), ("pipr", "did you mean piper")):
        with pytest.raises(UsageRefused, match=f"^--model: .*{reason}"):
            describe(model, "joe", tmp_path)
