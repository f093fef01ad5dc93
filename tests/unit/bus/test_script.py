"""Which voice speaks each turn of a script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.fleet.messages import Voice
from bus.script import Turn, joined, with_voices

VOICES = [
    Voice(id=name, name=name, language=language)
    for name, language in [("de", "de"), ("us", "en-us"), ("gb", "en_GB"), ("au", "en-AU"), ("fr", "fr-fr")]
]


def voices(*turns: tuple[str, str], default: str = "us") -> list[str]:
    """The voices of turns of (speaker, voice)."""
    script = [Turn(text="x", speaker=speaker, voice=voice) for speaker, voice in turns]
    return [turn.voice for turn in with_voices(script, default, VOICES)]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("", ""), ("", "de"), ("", "")], ["us", "de", "us"]),
        ([("A", "gb"), ("B", "de"), ("A", "")], ["gb", "de", "gb"]),
        ([("A", ""), ("A", "de"), ("A", "gb"), ("A", "")], ["de", "de", "gb", "de"]),  # the first that it is given
        ([("A", ""), ("B", ""), ("A", "")], ["us", "gb", "us"]),
        ([("A", ""), ("B", "us"), ("C", "")], ["gb", "us", "au"]),  # a named voice is not given a second time
        ([("A", ""), ("B", ""), ("C", ""), ("D", "")], ["us", "gb", "au", "us"]),  # and again from the first
        ([("A", "us"), ("B", "gb"), ("C", "au"), ("D", "")], ["us", "gb", "au", "us"]),  # all are named
        ([("", ""), ("A", "")], ["us", "us"]),
    ],
    ids=range(8),
)
def test_a_turn_gets_its_own_voice_or_its_speakers_or_a_free_one(
    turns: list[tuple[str, str]], expected: list[str]
) -> None:
    assert voices(*turns) == expected


def test_a_voice_that_is_not_listed_is_of_the_language_that_it_names() -> None:
    assert voices(("A", ""), ("B", ""), default="fr+f3") == ["fr+f3", "fr"]


def test_a_model_without_voices_has_none_to_give() -> None:
    assert with_voices([Turn(text="x", speaker="A")], "", []) == [Turn(text="x", speaker="A")]


@given(st.lists(st.tuples(st.sampled_from("ABC "), st.sampled_from(["", *(each.id for each in VOICES)]))))
def test_voices_are_given_once(turns: list[tuple[str, str]]) -> None:
    script = [Turn(text="x", speaker=speaker.strip(), voice=voice) for speaker, voice in turns]
    given_once = with_voices(script, "us", VOICES)
    assert all(turn.voice for turn in given_once)
    assert with_voices(given_once, "us", VOICES) == given_once


def test_the_joined_texts_are_lines() -> None:
    assert joined([Turn(text="One."), Turn(text="Two.")]) == "One.\nTwo."
