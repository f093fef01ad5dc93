"""How a piece of any number of bars is cut into sections. Closed forms: nothing is kept per bar."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of section, and who plays in it."""

    name: str
    #: 0: hardly any drums … 3: all of them.
    drums: int
    roles: frozenset[str]
    #: The chord loop and the motif that it uses: `a`, `b` or `c`.
    material: str
    #: Added to the piece's energy.
    lift: float = 0.0


@dataclass(frozen=True, slots=True)
class Section:
    """A run of bars of one kind."""

    index: int
    kind: Kind
    #: Every second turn of the cycle begins another one, with chords and tunes of its own.
    movement: int
    first_bar: int
    bars: int


def _kind(name: str, drums: int, roles: str, material: str, lift: float = 0.0) -> Kind:
    return Kind(name, drums, frozenset(roles.split()), material, lift)


INTRO: Final = _kind("intro", 0, "pad chords arp", "a")
OUTRO: Final = _kind("outro", 1, "pad chords bass lead", "a")
BRIDGE: Final = _kind("bridge", 2, "pad chords bass arp", "b", 0.05)
END: Final = _kind("end", 0, "pad chords bass lead arp", "a")
_CYCLE: Final = (
    _kind("A", 1, "pad chords bass lead", "a"),
    _kind("A'", 2, "pad chords bass lead arp", "a", 0.05),
    _kind("B", 3, "pad chords bass lead counter", "b", 0.1),
    _kind("A''", 2, "pad chords bass lead arp counter", "a", 0.08),
    _kind("C", 0, "pad chords arp bass lead", "c", -0.1),
    _kind("B'", 3, "pad chords bass lead arp counter", "b", 0.15),
)
#: The cycle of a piece that has room for a few sections only.
_SHORT_CYCLE: Final = (_CYCLE[0], _CYCLE[2], _CYCLE[3], _CYCLE[5])
_BRIDGE_BARS: Final = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """An intro, a body of equal sections in a cycle, perhaps a bridge, an outro, and the final chord, each by its
    first bar.
    """

    body: int
    bridge: int
    outro: int
    end: int
    #: Bars of a section of the body.
    unit: int
    cycle: tuple[Kind, ...]

    def section_at(self, bar: int) -> Section:
        """The section that holds `bar`; from `end` on, the final chord."""
        num_intro = 1 if self.body else 0
        num_body = (self.bridge - self.body) // self.unit
        num_bridge = 1 if self.outro > self.bridge else 0
        num_outro = 1 if self.end > self.outro else 0
        if bar >= self.end:
            index = num_intro + num_body + num_bridge + num_outro
            return Section(index, END, _movement(num_body - 1), self.end, 1)
        if bar < self.body:
            return Section(0, INTRO, 0, 0, self.body)
        if bar >= self.outro:
            return Section(num_intro + num_body + num_bridge, OUTRO, 0, self.outro, self.end - self.outro)
        if bar >= self.bridge:
            return Section(num_intro + num_body, BRIDGE, _movement(num_body - 1), self.bridge, _BRIDGE_BARS)
        turn = (bar - self.body) // self.unit
        kind = self.cycle[turn % len(self.cycle)]
        return Section(num_intro + turn, kind, _movement(turn), self.body + turn * self.unit, self.unit)


def lay_out(bars: int) -> Layout:
    """Cut `bars` bars. Those that sections and the bridge leave over, 0 to 3, are shared by the intro and the outro."""
    intro = 4 if bars >= 28 else 2 if bars >= 8 else 1 if bars >= 4 else 0
    outro = 4 if bars >= 28 else 2 if bars >= 7 else min(1, bars)
    body_bars = bars - intro - outro
    unit = 8 if body_bars >= 40 else 4
    num_body, left = divmod(body_bars, unit)
    bridge_bars = _BRIDGE_BARS if left >= _BRIDGE_BARS else 0
    body = intro + left % _BRIDGE_BARS // 2
    bridge = body + unit * num_body
    return Layout(body, bridge, bridge + bridge_bars, bars, unit, _CYCLE if num_body >= 6 else _SHORT_CYCLE)


def _movement(turn: int) -> int:
    return max(0, turn) // (2 * len(_CYCLE))
