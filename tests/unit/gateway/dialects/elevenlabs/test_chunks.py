"""Chunks of audio that their characters fill exactly: nothing is lost, for any pieces and marks."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bus import wire
from gateway.dialects.elevenlabs.socket_timing import Chunks

RATE_HZ = 1000  # a frame is a millisecond


def pcm(first: int, end: int) -> bytes:
    return b"".join((frame % 65_536).to_bytes(2, "little") for frame in range(first, end))


@st.composite
def spoken(draw: st.DrawFn) -> tuple[str, list[int], list[wire.Mark]]:
    """A text, the frames where its audio is cut into pieces, and a mark for each of its words, the first at 0."""
    words = draw(st.lists(st.text(alphabet="ab", min_size=1, max_size=5), min_size=1, max_size=8))
    frames = draw(st.lists(st.integers(1, 999), min_size=len(words) - 1, max_size=len(words) - 1, unique=True))
    starts = [0, *(sum(len(word) + 1 for word in words[: n + 1]) for n in range(len(words) - 1))]
    marks = [
        wire.Mark(frame, "word", start, len(word))
        for frame, start, word in zip([0, *sorted(frames)], starts, words, strict=True)
    ]
    cuts = draw(st.lists(st.integers(1, 999), max_size=6, unique=True))
    return " ".join(words) + " ", [0, *sorted(cuts), 1000], marks


@given(spoken())
def test_the_characters_of_each_chunk_fill_it_and_all_of_them_are_the_text(
    spoken_text: tuple[str, list[int], list[wire.Mark]],
) -> None:
    text, cuts, marks = spoken_text
    chunks = Chunks(text, RATE_HZ, 1)
    sent, characters = b"", ""
    for first, end in pairwise(cuts):
        new = [mark for mark in marks if first <= mark.frame < end]
        chunk, alignment = chunks.take(pcm(first, end), new, is_last=end == 1000)
        sent += chunk
        if alignment is None:
            assert not chunk
            continue
        starts, durations = alignment["charStartTimesMs"], alignment["charDurationsMs"]
        assert starts[0] == 0
        assert [start + duration for start, duration in zip(starts, durations, strict=True)][:-1] == starts[1:]
        assert starts[-1] + durations[-1] == len(chunk) // 2
        characters += "".join(alignment["chars"])
    assert (sent, characters) == (pcm(0, 1000), text)


def test_without_marks_no_audio_is_held_back() -> None:
    chunks = Chunks("Hello", RATE_HZ, 1)
    assert chunks.take(pcm(0, 10), [], is_last=False) == (pcm(0, 10), None)
    assert chunks.take(b"", [], is_last=True) == (b"", None)
