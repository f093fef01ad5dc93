"""Characters in time, between the marks that an engine gives."""

from gateway.dialects.elevenlabs.timing import Alignment, Characters


def test_each_character_is_told_once_and_between_marks_time_runs_evenly() -> None:
    characters = Characters("ab cd.")
    assert characters.take([(0, 0.1)]) is None  # where a word ends is not known yet
    assert characters.take([(3, 0.4)]) == Alignment(["a", "b", " "], [0.1, 0.2, 0.3], [0.2, 0.3, 0.4])
    assert characters.take([]) is None
    assert characters.rest(1.0) == Alignment(["c", "d", "."], [0.4, 0.6, 0.8], [0.6, 0.8, 1.0])


def test_what_is_before_the_first_mark_is_told_before_it() -> None:
    characters = Characters('"a')
    assert characters.take([(1, 0.5)]) == Alignment(['"'], [0.0], [0.5])
    assert characters.rest(0.7) == Alignment(["a"], [0.5], [0.7])


def test_a_sound_without_a_mark_has_no_alignment() -> None:
    assert Characters("abc").rest(1.0) is None


def test_marks_that_go_back_are_left_out() -> None:
    characters = Characters("abcd")
    told = characters.take([(2, 0.2), (1, 0.3), (3, 0.1), (99, 0.3), (3, 0.3)])
    assert told == Alignment(["a", "b", "c"], [0.0, 0.1, 0.2], [0.1, 0.2, 0.3])


def test_a_mark_behind_the_end_of_the_sound_does_not_turn_time_back() -> None:
    characters = Characters("ab")
    assert characters.take([(1, 0.5)]) == Alignment(["a"], [0.0], [0.5])
    assert characters.rest(0.4) == Alignment(["b"], [0.5], [0.5])
