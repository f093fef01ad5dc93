"""Word errors by sentence, with numbers made comparable, and the recordings that are judged together."""

import pytest

from ops.bench import quality, scoring
from ops.bench.judge import find_model
from ops.errors import OpsError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("In 1984.", "in nineteen eighty-four"),
        ("four hundred and twelve", "412"),
        ("$12 and 20%", "twelve dollars and twenty percent"),
        ("the 7th floor, isn't it", "The 7 floor isnt it!"),
        ("1,234", "1234"),
        ("twenty minutes", "20 minutes"),
        ("Dr. Miller", "Doctor Miller"),
    ],
)
def test_two_spellings_of_the_same_words_are_equal(one: str, other: str) -> None:
    assert scoring.words(one) == scoring.words(other)


@pytest.mark.parametrize(
    ("recognised", "counts"),
    [
        ("one cat sleeps two dogs bark loudly", [0, 0]),
        ("one cat two dogs bark loudly", [1, 0]),
        ("one cat sleeps sleeps two dogs bark", [1, 1]),
        ("one hat sleeps two frogs bark loudly", [1, 1]),
        ("", [3, 4]),
        ("one cat sleeps two dogs bark loudly and more", [0, 2]),
    ],
)
def test_errors_are_counted_for_the_sentence_that_they_are_in(recognised: str, counts: list[int]) -> None:
    assert scoring.errors(["One cat sleeps.", "Two dogs bark loudly."], recognised) == counts


def test_recordings_are_judged_by_windows_of_half_a_minute() -> None:
    assert list(quality.windows([10.0, 10.0, 10.0, 10.0, 40.0, 1.0])) == [(0, 2), (2, 4), (4, 5), (5, 6)]
    assert list(quality.windows([1.0])) == [(0, 1)]


def test_another_model_is_refused_by_its_hash(tmp_path) -> None:
    (tmp_path / "model.bin").write_bytes(b"another one")
    with pytest.raises(OpsError, match=r"SHA-256|faster-whisper"):
        find_model(str(tmp_path))
    with pytest.raises(OpsError, match=r"tests/assets.txt"):
        find_model(str(tmp_path / "nothing"))


def test_a_report_has_a_line_for_each_voice_with_its_worst_sentence() -> None:
    sentences = [quality.Sentence(text=text, words=4, errors=errors) for text, errors in (("Good.", 0), ("Bad.", 2))]
    result = quality.Result(model="piper", voice="joe", error_rate=0.25, worst=0.5, sentences=sentences)
    assert quality.report([result], as_json=False).splitlines()[1].split() == ["joe", "0.250", "0.50", "Bad."]
    assert '"error_rate": 0.25' in quality.report([result], as_json=True)
