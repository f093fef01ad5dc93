"""Characters in time, between the marks that an engine gives."""

from gateway.dialects.elevenlabs.timing import Alignment, Characters


def test_each_character_is_returned_once_and_times_between_marks_are_even() -> None:
    characters = Characters("ab cd.")
    assert characters.take([(0, 0.1)]) is None  # where a word ends is not known yet
    assert characters.take([(3, 0.4)]) == Alignment(["a", "b", " "], [0.1, 0.2, 0.3], [0.2, 0.3, 0.4])
    assert characters.take([]) is None
    assert characters.rest(1.0) == Alignment(["c", "d", "."], [0.4, 0.6, 0.8], [0.6, 0.8, 1.0])


def test_characters_before_the_first_mark_end_at_it() -> None:
    characters = Characters('"a')
    assert characters.take([(1, 0.5)]) == Alignment(['"'], [0.0], [0.5])
    assert characters.rest(0.7) == Alignment(["a"], [0.5], [0.7])


def test_audio_without_marks_has_no_alignment() -> None:
    assert Characters("abc").rest(1.0) is None


def test_marks_that_go_back_are_ignored() -> None:
    characters = Characters("abcd")
    alignment = characters.take([(2, 0.2), (1, 0.3), (3, 0.1), (99, 0.3), (3, 0.3)])
    assert alignment == Alignment(["a", "b", "c"], [0.0, 0.1, 0.2], [0.1, 0.2, 0.3])


def test_a_mark_after_the_end_of_the_audio_does_not_make_time_go_back() -> None:
    characters = Characters("ab")
    assert characters.take([(1, 0.5)]) == Alignment(["a"], [0.0], [0.5])
    assert characters.rest(0.4) == Alignment(["b"], [0.5], [0.5])
