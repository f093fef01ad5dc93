"""The pipe between a worker and its engine host: whole messages out of bytes in any pieces."""

from hypothesis import given
from hypothesis import strategies as st

from bus import wire
from gpuworker import pipe

MESSAGES = [
    pipe.Loaded("tone", 0.5),
    pipe.Unavailable("music", "no torch"),
    pipe.Progress("denoise", 1, 8),
    pipe.Checkpoint(7, b"\x00\xff", grows=True),
    pipe.Done({"blocks": 3}),
    pipe.Failed("engine_failed", "m", "p", "t"),
]
MARKS = st.lists(
    st.builds(
        wire.Mark,
        st.integers(0, 2**53),
        st.sampled_from(["word", "sentence"]),
        st.integers(0, 2**31),
        st.integers(1, 2**31),
    ),
    max_size=4,
).map(tuple)
COMMANDS = [
    pipe.Start(
        handle=1,
        request=wire.EngineRequest(model="tone", id="j", input="x", params={"a": [1, None]}, seed=2**62),
        start_frame=9,
        attempt=2,
    ),
    pipe.Increment(1, b"\x00\xff"),
    pipe.Stop(3),
    pipe.Credit(1, 4096),
    pipe.Quit(),
]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


class Received:
    """Notes the messages of one job, each with its handle, in a list that all jobs share."""

    def __init__(self, handle: int, messages: list[tuple[object, ...]]) -> None:
        self.handle = handle
        self.messages = messages

    def on_audio(self, first_frame: int, pcm: bytes, marks: pipe.Marks) -> None:
        self.messages.append((self.handle, first_frame, pcm, marks))

    def on_control(self, message: pipe.ControlMessage) -> None:
        self.messages.append((self.handle, message))


@given(
    st.lists(st.integers(0, 10_000)),
    st.lists(st.tuples(st.integers(0, 5), MARKS), max_size=20),
    st.binary(max_size=300),
)
def test_messages_to_the_worker_arrive_whole_in_order_and_for_known_jobs_only(
    cuts: list[int], choice: list[tuple[int, pipe.Marks]], pcm: bytes
) -> None:
    sent: list[tuple[object, ...]] = [(0, MESSAGES[0])]
    data = pipe.encode_control(0, MESSAGES[0]) + pipe.encode_control(99, MESSAGES[3])
    for handle, (index, marks) in enumerate(choice, 1):
        sent += [(handle, 5 * handle, pcm, marks), (handle, MESSAGES[index])]
        data += pipe.encode_audio(handle, 5 * handle, pcm, marks) + pipe.encode_control(handle, MESSAGES[index])
    got: list[tuple[object, ...]] = []
    receivers = {handle: Received(handle, got) for handle in range(1, len(choice) + 1)}
    reader = pipe.MessageReader(receivers, lambda message: got.append((0, message)))
    for piece in pieces(data, cuts):
        reader.feed(piece)
    assert got == sent


@given(st.lists(st.integers(0, 10_000)), st.lists(st.integers(0, 4), max_size=20))
def test_commands_to_the_host_arrive_whole_and_in_order(cuts: list[int], choice: list[int]) -> None:
    sent = [COMMANDS[index] for index in choice]
    reader = pipe.CommandReader()
    got = [
        command for piece in pieces(b"".join(map(pipe.encode_command, sent)), cuts) for command in reader.feed(piece)
    ]
    assert got == sent
