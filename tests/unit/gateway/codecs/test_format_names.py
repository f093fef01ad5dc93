"""Names of formats."""

import pytest

from bus.errors import Invalid
from gateway.codecs import FORMATS, format_named
from gateway.dialects.acestep import task


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid, match="'midi' is not one of wav, pcm") as refused:
        format_named("midi", "format")
    assert refused.value.path == "format"


def test_the_formats_of_ace_steps_api_are_formats_of_ours() -> None:
    assert set(task.FORMATS) <= set(FORMATS)
