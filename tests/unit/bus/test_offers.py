"""Which version of a model a request without one gets where no route says."""

from typing import Any

import msgspec
import pytest

from bus.fleet.messages import ModelCard
from bus.fleet.offers import Offers


def card(model: str, version: str, **more: Any) -> ModelCard:
    known: dict[str, Any] = {"kind": "tone", "rate_hz": 24_000, "channels": 1, "resume": "replay", "family": ""}
    fields = known | {"determinism": "none", "param_schema": {}, "max_input_chars": 10} | more
    return ModelCard(name=model, version=version, **fields)


@pytest.mark.parametrize(
    ("versions", "first"),
    [(["v2", "v1"], "v1"), (["v10", "v9"], "v9"), (["2026-11", "2026-02"], "2026-02"), (["beta", "v1"], "beta")],
)
def test_it_is_the_first_by_number_however_they_arrive(versions: list[str], first: str) -> None:
    offers, offered = Offers(), list[ModelCard]()
    for version in [*versions, *reversed(versions)]:
        offered.append(card("tone", version))
        offers.add(offered[-1:])
        offers.settle(offered[-1:], offered)
    assert offers.cards["tone"].version == first
    assert {*offers.versions["tone"]} == {*versions}


def test_it_is_one_that_a_worker_offers_and_without_any_the_first_that_was() -> None:
    offers, one, two = Offers(), card("tone", "v1"), card("tone", "v2")
    offers.add([one, two])
    offers.settle([one, two], [two])
    assert offers.cards["tone"].version == "v2"
    offers.settle([one, two], [])
    assert offers.cards["tone"].version == "v1"


def test_the_newest_card_of_a_version_counts_and_models_do_not_mix() -> None:
    offers, old, other = Offers(), card("tone", "v1"), card("piper", "v7", family="speech")
    new = msgspec.structs.replace(old, max_input_chars=99)
    for cards in ([old, other], [new]):
        offers.add(cards)
        offers.settle(cards, [new, other])
    assert (offers.cards, offers.families) == ({"tone": new, "piper": other}, {"speech"})
