"""Models of a family, as a gateway may choose among them."""

import msgspec

from bus.fleet.messages import Voice
from bus.jobs.client import Bus, open_bus
from tests.support.fleet import gateway, present
from tests.support.stub_worker import CARD
from tests.support.waiting import eventually


async def test_a_family_has_the_voices_that_all_its_workers_have(bus: Bus) -> None:
    """Any of them may be given a job: one voice is missing on the second worker, and one has other files there."""
    ann, bob, eva = (Voice(id=name, name=name, language="en", sha256="58") for name in ("ann", "bob", "eva"))
    card = msgspec.structs.replace(CARD, family="speech", voices=[ann, bob, eva])
    less = msgspec.structs.replace(card, voices=[msgspec.structs.replace(ann, sha256="77"), bob])
    async with (
        gateway(bus) as fleet,
        open_bus(bus.settings, "test") as one,
        open_bus(bus.settings, "test") as other,
        present(one, "w1", "b1") as first,
    ):
        first.cards = [card]
        await eventually(lambda: fleet.members("speech") == [card])
        assert fleet.members("music") == []
        async with present(other, "w2", "b1") as second:
            second.cards = [less]
            await eventually(lambda: [each.voices for each in fleet.members("speech")] == [[bob]])
        await eventually(lambda: fleet.members("speech") == [card])
        assert fleet.families == {"speech"}
