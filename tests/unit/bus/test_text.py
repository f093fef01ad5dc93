"""Suggestions for a misspelt name."""

from bus.text import did_you_mean, suggestion


def test_the_nearest_name_is_suggested() -> None:
    assert did_you_mean("tonne", ["speech", "tone"]) == "; did you mean tone?"
    assert did_you_mean("tonne", ["speech", "tone"], repr) == "; did you mean 'tone'?"


def test_swapped_letters_come_before_other_mistakes() -> None:
    assert did_you_mean("slost", ["slot", "slots", "host"]) == "; did you mean slots?"


def test_several_names_may_be_suggested() -> None:
    assert did_you_mean("en-uk", ["en-us", "en-gb", "de"], limit=3) == "; did you mean en-us or en-gb?"


def test_a_name_that_resembles_none_gets_no_suggestion_or_the_list() -> None:
    assert did_you_mean("x", ["speech", "tone"]) == ""
    assert suggestion("x", ["tone", "speech"]) == "; known are 'tone', 'speech'"
    assert suggestion("x", []) == "; known are none"
    assert suggestion("x", [f"v{number}" for number in range(23)], str).endswith(", v19 and 3 more")


def test_a_name_of_a_megabyte_is_compared_by_its_beginning() -> None:
    assert suggestion("tone" * 250_000, ["tone"]) == "; known are 'tone'"


def test_a_short_name_needs_a_nearer_one() -> None:
    assert did_you_mean("bob", ["jbo", "en"]) == ""
    assert did_you_mean("teh", ["the"]) == "; did you mean the?"
    assert did_you_mean("dee", ["de"]) == "; did you mean de?"
