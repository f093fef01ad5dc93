"""How a piece of any length is cut into sections, and when each beat sounds. Closed forms: nothing is kept per bar."""

from dataclasses import dataclass

RATE_HZ = 48_000
#: Most sections that a job's facts list.
MAX_LISTED = 64


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    #: 0: hardly any drums … 3: all of them.
    drums: int
    roles: frozenset[str]
    #: Which chord loop and which motif.
    material: str
    lift: float = 0.0


def _kind(name: str, drums: int, roles: str, material: str, lift: float = 0.0) -> Kind:
    return Kind(name, drums, frozenset(roles.split()), material, lift)


INTRO = _kind("intro", 0, "pad chords arp", "a")
OUTRO = _kind("outro", 1, "pad chords bass lead", "a")
BRIDGE = _kind("bridge", 2, "pad chords bass arp", "b", 0.05)
END = _kind("end", 0, "pad chords bass lead arp", "a")
_CYCLE = (
    _kind("A", 1, "pad chords bass lead", "a"),
    _kind("A'", 2, "pad chords bass lead arp", "a", 0.05),
    _kind("B", 3, "pad chords bass lead counter", "b", 0.1),
    _kind("A''", 2, "pad chords bass lead arp counter", "a", 0.08),
    _kind("C", 0, "pad chords arp bass lead", "c", -0.1),
    _kind("B'", 3, "pad chords bass lead arp counter", "b", 0.15),
)
#: When there is room for a few sections only.
_SHORT_CYCLE = (_CYCLE[0], _CYCLE[2], _CYCLE[3], _CYCLE[5])


@dataclass(frozen=True, slots=True)
class Section:
    index: int
    kind: Kind
    #: Every second turn of the cycle begins another one, with chords and tunes of its own.
    movement: int
    first_bar: int
    bars: int


@dataclass(frozen=True, slots=True)
class Form:
    """`bars` whole bars in sections, then a final chord until `seconds`. The last bar slows down."""

    seconds: float
    beat_s: float
    beats: int
    slowing: float

    @property
    def frames(self) -> int:
        return round(self.seconds * RATE_HZ)

    @property
    def bars(self) -> int:
        bar_s = self.beats * self.beat_s
        least_hold_s = min(3.2, max(0.7, 0.12 * self.seconds))
        return max(0, int((self.seconds - least_hold_s - 0.5 * self.slowing * bar_s) / bar_s))

    @property
    def intro_bars(self) -> int:
        return self._base_intro + self._spare_bars // 2

    @property
    def has_bridge(self) -> bool:
        return self._body_bars % self._unit >= 4

    @property
    def outro_bars(self) -> int:
        return self._base_outro + self._spare_bars - self._spare_bars // 2

    @property
    def _base_outro(self) -> int:
        return 4 if self.bars >= 28 else 2 if self.bars >= 7 else min(1, self.bars)

    @property
    def _spare_bars(self) -> int:
        """What whole sections and the bridge leave over, 0 to 3; the intro and the outro share it."""
        return self._body_bars % self._unit % 4

    @property
    def _base_intro(self) -> int:
        return 4 if self.bars >= 28 else 2 if self.bars >= 8 else 1 if self.bars >= 4 else 0

    @property
    def _body_bars(self) -> int:
        return self.bars - self._base_intro - self._base_outro

    @property
    def _unit(self) -> int:
        """Bars of a section of the body."""
        return 8 if self._body_bars >= 40 else 4

    @property
    def _cycle(self) -> tuple[Kind, ...]:
        return _CYCLE if self._body_bars // self._unit >= 6 else _SHORT_CYCLE

    def _bounds(self) -> list[int]:
        """First bars of: the body, the bridge, the outro, the end."""
        body = self.intro_bars
        bridge = body + self._unit * (self._body_bars // self._unit)
        outro = bridge + (4 if self.has_bridge else 0)
        return [body, bridge, outro, self.bars]

    def section_at_bar(self, bar: int) -> Section:
        """The section that holds `bar`; from the last bar on, the end."""
        body, bridge, outro, end = self._bounds()
        num_body = (bridge - body) // self._unit
        after_intro = 1 if body else 0
        if bar >= end:
            index = after_intro + num_body + (outro > bridge) + (end > outro)
            return Section(index, END, self._movement(num_body - 1), end, 1)
        if bar < body:
            return Section(0, INTRO, 0, 0, body)
        if bar >= outro:
            index = after_intro + num_body + (outro > bridge)
            return Section(index, OUTRO, 0, outro, end - outro)
        if bar >= bridge:
            return Section(after_intro + num_body, BRIDGE, self._movement(num_body - 1), bridge, 4)
        turn = (bar - body) // self._unit
        kind = self._cycle[turn % len(self._cycle)]
        return Section(after_intro + turn, kind, self._movement(turn), body + turn * self._unit, self._unit)

    def _movement(self, turn: int) -> int:
        return max(0, turn) // (2 * len(_CYCLE))

    def second(self, beat: float) -> float:
        """When `beat` (from the start of the piece) sounds, in seconds; the last bar is stretched, evenly growing."""
        late = beat - (self.bars - 1) * self.beats
        if late <= 0 or not self.bars:
            return beat * self.beat_s
        inside = min(late, float(self.beats))
        extra = 0.5 * self.slowing * inside * inside / self.beats + self.slowing * (late - inside)
        return (beat + extra) * self.beat_s

    def bar_at(self, second: float) -> int:
        """The bar that sounds at `second`; `bars` during the final chord."""
        if second >= self.end_s:
            return self.bars
        return max(0, min(self.bars - 1, int(second / (self.beats * self.beat_s))))

    @property
    def end_s(self) -> float:
        """When the final chord is struck."""
        return self.second(float(self.bars * self.beats))

    def listed(self) -> list[dict[str, str | float]]:
        """The sections as facts, at most `MAX_LISTED`."""
        out: list[dict[str, str | float]] = []
        bar = 0
        while len(out) < MAX_LISTED:
            section = self.section_at_bar(bar)
            start_s = self.end_s if section.kind is END else self.second(float(section.first_bar * self.beats))
            out.append({"name": section.kind.name, "start_s": round(start_s, 3)})
            if section.kind is END:
                break
            bar = section.first_bar + section.bars
        return out
