"""The order of consumers: high lanes first, a starved lane once, a consumer that fails after a pause."""

from bus.jobs.lanes import UNKNOWN, Lane, Lanes

PATIENCE = 3


def lanes(*consumers: tuple[str, ...]) -> Lanes:
    """Lanes `lane0`, `lane1`, … of these consumers, all of them known to be empty."""
    made = Lanes([Lane(f"lane{rank}", names) for rank, names in enumerate(consumers)], PATIENCE)
    for consumer in made.consumers.values():
        consumer.num_pending = 0
    return made


def test_a_consumer_of_which_nothing_is_known_is_pulled_from_one_message_at_a_time() -> None:
    order = Lanes([Lane("lane0", ("a",))], PATIENCE)
    consumer = order.next_to_pull(0.0)
    assert consumer is order.consumers["a"]
    assert consumer.num_pending == UNKNOWN
    assert order.batch_for(consumer, num_free=5) == 1


def test_no_consumer_is_pulled_from_while_all_are_empty() -> None:
    assert lanes(("a",), ("b",)).next_to_pull(0.0) is None


def test_a_batch_is_no_larger_than_the_free_slots_or_the_queue() -> None:
    order = lanes(("a",))
    order.consumers["a"].num_pending = 4
    assert [order.batch_for(order.consumers["a"], num_free) for num_free in (1, 4, 9)] == [1, 4, 4]


def test_a_lane_that_was_passed_over_often_enough_goes_first_once_with_one_message() -> None:
    order = lanes(("high",), ("low",))
    for consumer in order.consumers.values():
        consumer.num_pending = 9
    pulled = []
    for _ in range(2 * (PATIENCE + 1)):
        consumer = order.next_to_pull(0.0)
        assert consumer is not None
        pulled.append(consumer.name)
        assert order.batch_for(consumer, num_free=5) == (1 if consumer.name == "low" else 5)
        order.delivered(consumer)
    assert pulled == [*["high"] * PATIENCE, "low"] * 2


def test_an_empty_lane_is_not_passed_over() -> None:
    order = lanes(("high",), ("low",))
    order.consumers["high"].num_pending = 9
    for _ in range(PATIENCE):
        order.delivered(order.consumers["high"])
    order.consumers["low"].num_pending = 9
    assert order.next_to_pull(0.0) is order.consumers["high"]


def test_consumers_of_one_lane_take_turns() -> None:
    order = lanes(("a", "b"))
    for consumer in order.consumers.values():
        consumer.num_pending = 9
    pulled = []
    for _ in range(4):
        consumer = order.next_to_pull(0.0)
        assert consumer is not None
        pulled.append(consumer.name)
        order.delivered(consumer)
    assert pulled == ["a", "b", "a", "b"]


def test_a_consumer_that_failed_is_left_out_for_a_pause_and_does_not_keep_lower_lanes_waiting() -> None:
    order = lanes(("high",), ("low",))
    for consumer in order.consumers.values():
        consumer.num_pending = 1
    order.consumers["high"].failed(100.0)
    assert order.next_to_pull(100.0) is order.consumers["low"]
    assert order.next_to_pull(3700.0) is order.consumers["high"]
    order.consumers["high"].answered()
    assert order.next_to_pull(100.0) is order.consumers["high"]


def test_a_pull_that_brought_nothing_shows_that_its_consumer_is_empty() -> None:
    order = Lanes([Lane("lane0", ("a",))], PATIENCE)
    order.found_empty(order.consumers["a"])
    assert order.next_to_pull(0.0) is None
    order.consumers["a"].forget()
    assert order.next_to_pull(0.0) is order.consumers["a"]
