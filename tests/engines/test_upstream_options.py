"""The options of upstream models: wrong ones are refused, and every table of the page works."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.settings import SettingsError
from gpuworker import registry
from gpuworker.registry import ServedModel
from tests.support.upstream_engine import JOB, loaded, server, spoken
from tests.support.upstream_servers import Running

pytestmark = pytest.mark.slow

__all__ = ["server"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://x"}, "engines.upstream.qwen.url: 'ftp://x': expected `str` matching regex"),
        ({"rate_hz": 1}, "engines.upstream.qwen.rate_hz: 1: expected `int` >= 8000"),
        ({"default_voice": "x"}, "engines.upstream.qwen.default_voice: 'x' is neither in voices nor in clips"),
        ({"voices": ["a", "a"]}, "engines.upstream.qwen.voices: a name is there twice"),
        ({"params": {"model": {}}}, "engines.upstream.qwen.params: 'model' is a field that this engine fills in"),
        ({"api_key": "x"}, "unknown option engines.upstream.qwen.api_key"),
    ],
)
def test_options_that_are_wrong_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        registry.make_model(ServedModel("qwen", "upstream", options))
    assert str(refusal.value).startswith(message)


def tables() -> dict[str, dict[str, Any]]:
    """The models of the tables in `docs/upstream.md`, by the heading above each."""
    found = {}
    for part in (ROOT / "docs" / "upstream.md").read_text().split("\n### ")[1:]:
        heading, _, text = part.partition("\n")
        text = text.partition("\n## ")[0]
        for number, block in enumerate(text.split("```toml\n")[1:]):
            ((_, options),) = tomllib.loads(block.partition("```")[0])["engines"]["upstream"].items()
            found[f"{heading} {number}"] = options
    return found


@pytest.mark.parametrize("title", tables())
def test_every_table_of_the_page_makes_audio_of_a_server_with_its_wire(
    server: Running, title: str, tmp_path: Path
) -> None:
    options = {**tables()[title], "url": server.url, "health": "/health"}
    for clip in options.get("clips", {}).values():
        clip["file"] = str(tmp_path / "clip.wav")
        (tmp_path / "clip.wav").write_bytes(b"RIFF")
    server.state.rate_hz = options.get("rate_hz", 24_000)
    engine = loaded(server, **{name: value for name, value in options.items() if name != "url"})
    job = replace(JOB, params={"seconds": 1}) if options.get("api") == "acestep" else JOB
    assert len(spoken(engine, job)) > 40_000
    (request,) = server.state.requests
    assert request["model"] == options.get("model", "qwen")
    assert options.get("fields", {}).items() <= request.items()
    engine.unload()
