"""Engines are found by their entry points and made with the options that they declare."""

import sys
from pathlib import Path

import pytest

from bus.settings import SettingsError
from gpuworker import registry
from gpuworker.engines.tone import Tone
from tests.support import engine_package

ORGAN = """
from typing import Annotated

from msgspec import Meta

from gpuworker.engine import EngineOptions
from gpuworker.engines.tone import Tone


class OrganOptions(EngineOptions, frozen=True, kw_only=True):
    num_pipes: Annotated[int, Meta(ge=1, le=100)] = 3
    stop: str = "flute"
    is_loud: bool = False


class Organ(Tone):
    Options = OrganOptions

    def __init__(self, options):
        super().__init__()
        self.options = options
"""


@pytest.fixture(autouse=True)
def organ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_package.install(tmp_path, "organ", "Organ", ORGAN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "organ", raising=False)


def test_an_engine_of_another_distribution_is_found_beside_ours() -> None:
    assert registry.names() == ["kokoro", "music", "organ", "piper", "speech", "tone", "upstream"]
    assert isinstance(registry.make("organ"), Tone)


def test_options_reach_an_engine_as_its_own_struct_with_defaults_filled_in() -> None:
    options = registry.make("organ", {"num_pipes": 7}).options  # type: ignore[attr-defined]
    assert (options.num_pipes, options.stop, options.is_loud) == (7, "flute", False)


def test_text_from_a_command_line_becomes_the_type_of_the_option() -> None:
    options = registry.make("organ", {"num_pipes": "12", "is_loud": "true"}).options  # type: ignore[attr-defined]
    assert (options.num_pipes, options.is_loud) == (12, True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("organ", {"num_pipe": 7}, "unknown option engines.organ.num_pipe; did you mean 'num_pipes'?"),
        ("organ", {"num_pipes": 0}, "engines.organ.num_pipes: 0: expected `int` >= 1"),
        ("organ", {"num_pipes": "many"}, "engines.organ.num_pipes: 'many': expected `int`, got `str`"),
        ("music", {"quality": "high"}, "unknown option engines.music.quality; known are none"),
    ],
)
def test_an_option_that_is_wrong_is_refused_with_its_name_its_value_and_the_limit(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        registry.make(name, options)
    assert str(refusal.value) == message


def test_allowing_faults_sets_that_option_only_where_an_engine_has_it() -> None:
    faulty, sound = registry.make("tone", allow_faults=True), registry.make("tone")
    assert "fault" in faulty.capabilities().param_schema["properties"]
    assert "fault" not in sound.capabilities().param_schema["properties"]
    assert "fault" not in registry.make("organ", allow_faults=True).capabilities().param_schema["properties"]


def test_an_unknown_engine_is_refused_with_one_that_is_called_alike() -> None:
    with pytest.raises(registry.UnknownEngine, match="no engine is called 'orgam'; did you mean 'organ'"):
        registry.make("orgam")


def test_every_field_of_a_card_is_the_engines_own() -> None:
    for name in registry.names():
        capabilities = registry.make(name).capabilities()
        card = registry.card(capabilities)
        assert (card.name, card.rate_hz, card.max_batch) == (
            capabilities.name,
            capabilities.rate_hz,
            capabilities.max_batch,
        )
        assert [voice.id for voice in card.voices] == [voice.id for voice in capabilities.voices]
        assert card.languages == list(capabilities.languages)
