"""Each tenant's bytes in the queue, from counts of messages and the sizes of requests."""

import random

import pytest

from gateway.limits.queue_bytes import QueueBytes

MIB = 1 << 20


def held(shares: QueueBytes) -> dict[str, float]:
    return {tenant: round(value) for tenant, value in shares._pool.owners.items()}


def test_an_idle_queue_is_nobodys() -> None:
    shares = QueueBytes(8 * MIB)
    shares.update(0, {})
    assert shares.total_bytes == 0
    assert shares.take("acme", 8 * MIB) is None


def test_the_estimates_add_up_to_the_queue() -> None:
    rng, shares = random.Random(3), QueueBytes(100 * MIB)
    for _ in range(200):
        counts = {f"t{n}": rng.randrange(100) for n in range(rng.randrange(1, 20))}
        for _ in range(20):
            shares.observe(f"t{rng.randrange(30)}", rng.randrange(1, 250_000))
        total = rng.randrange(1, 50 * MIB) if sum(counts.values()) else 0
        shares.update(total, counts)
        assert sum(held(shares).values()) == pytest.approx(total, abs=len(counts))


def test_a_tenant_of_large_messages_holds_more_than_one_of_many_small_ones() -> None:
    shares = QueueBytes(100 * MIB)
    for _ in range(10):
        shares.observe("large", 99_000)
        shares.observe("small", 300)
    shares.update(60 * 99_000 + 1000 * 300, {"large": 60, "small": 1000})
    assert held(shares) == {"large": pytest.approx(60 * 99_000, rel=0.01), "small": pytest.approx(300_000, rel=0.01)}


def test_small_jobs_in_between_do_not_hide_large_ones_that_wait() -> None:
    shares = QueueBytes(100 * MIB)
    for _ in range(60):
        shares.observe("large", 99_000)
        for _ in range(50):
            shares.observe("large", 300)  # these end at once, and are in the queue no more
        shares.observe("small", 300)
    shares.update(60 * 99_000 + 1000 * 300, {"large": 60, "small": 1000})
    assert held(shares)["large"] > 0.9 * 60 * 99_000


def test_tenants_that_this_gateway_has_not_seen_have_the_rest() -> None:
    shares = QueueBytes(100 * MIB)
    shares.observe("seen", 1000)
    shares.update(1000 + 40_000, {"seen": 1, "a": 1, "b": 3})
    assert held(shares) == {"seen": 1000, "a": 10_000, "b": 30_000}


def test_one_tenant_cannot_fill_the_queue_and_another_finds_room() -> None:
    """Attack A6b: 85 queued jobs of 99 KB filled 8 MiB, for every tenant."""
    size, shares, taken = 99_000, QueueBytes(int(0.85 * 8 * MIB)), 0
    for _ in range(85):
        shares.observe("acme", size)
        if shares.take("acme", size) is None:
            taken += 1
        shares.update(taken * size, {"acme": taken})
    assert 55 < taken < 70
    refusal = shares.take("acme", size)
    assert refusal is not None
    assert refusal.is_own
    assert shares.take("other", size) is None


def test_as_many_tenants_are_remembered_as_are_bounded() -> None:
    shares = QueueBytes(MIB)
    for n in range(10_050):
        shares.observe(f"t{n}", 1)
    assert len(shares._sizes) == 10_000
