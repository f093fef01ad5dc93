"""Which models workers offer, in which versions, and for how long no worker has served one. Pure."""

import re
from collections.abc import Iterable
from typing import Final

from bus.fleet.messages import Heartbeat, ModelCard

_DIGITS: Final = re.compile(r"(\d+)")


class Unserved:
    """For how long no worker has served each version of a model. Time passes by `tick` alone."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = {}

    def seconds(self, model: str, version: str) -> float:
        """Time since a heartbeat of a worker that takes jobs of the version; or since it was described."""
        return self._seconds.get((model, version), 0.0)

    def beat(self, heartbeat: Heartbeat, cards: Iterable[ModelCard]) -> None:
        """A worker with these cards reported itself. One that still loads its models counts, one that drains does not.

        A model that failed to load is on a card and not in the heartbeat.
        """
        if heartbeat.state != "draining":
            served = [(card.name, card.version) for card in cards if card.name in heartbeat.models]
            self._seconds.update(dict.fromkeys(served, 0.0))

    def describe(self, cards: Iterable[ModelCard]) -> None:
        """A worker described these models, which it may fail to load: no heartbeat names those."""
        for card in cards:
            self._seconds.setdefault((card.name, card.version), 0.0)

    def tick(self, seconds: float) -> None:
        """So much time has passed in which heartbeats could arrive."""
        for served in self._seconds:
            self._seconds[served] += seconds

    def clear(self) -> None:
        """Heartbeats cannot arrive: count from now on."""
        self._seconds = dict.fromkeys(self._seconds, 0.0)


class Offers:
    """The cards that workers have described."""

    def __init__(self) -> None:
        #: By model, the card of the version that a request without one gets: of the versions that workers offer, or if
        #: none does of all, the first in the order of their numbers. So a new version gets nothing until a route or a
        #: request names it, or the old one is gone.
        self.cards: Final[dict[str, ModelCard]] = {}
        #: By model and version, the newest card ever offered: a fleet at rest is still known.
        self.versions: Final[dict[str, dict[str, ModelCard]]] = {}
        #: Every family that a card ever offered here belongs to.
        self.families: Final[set[str]] = set()

    def add(self, cards: Iterable[ModelCard]) -> None:
        """Remember cards that a worker has described; `settle` has to follow."""
        for card in cards:
            self.versions.setdefault(card.name, {})[card.version] = card
            if card.family:
                self.families.add(card.family)

    def settle(self, changed: Iterable[ModelCard], offered: Iterable[ModelCard]) -> None:
        """Choose the version of each model of `changed` again: workers that offer it came, drain or have left.

        `offered`: the cards of all workers that take jobs.
        """
        now = {(card.name, card.version) for card in offered}
        for model in {card.name for card in changed}:
            known = self.versions.get(model, {})
            among = [version for version in known if (model, version) in now] or list(known)
            if among:
                self.cards[model] = known[min(among, key=_order)]


def _order(version: str) -> list[tuple[bool, int, str]]:
    """By numbers where both have one: `v2` comes before `v10`."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in _DIGITS.split(version)]
