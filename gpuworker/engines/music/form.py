"""The time of each beat of a piece. Closed forms: nothing is kept per bar."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from gpuworker.engines.music.sections import END, Layout, Section, lay_out

RATE_HZ: Final = 48_000
#: Most sections that a job's facts list.
MAX_LISTED: Final = 64


@dataclass(frozen=True)
class Form:
    """Whole bars in sections, then a final chord until `seconds`. The last bar slows down."""

    seconds: float
    #: Seconds of a beat, before it slows down.
    beat_s: float
    #: Beats of a bar.
    beats: int
    #: How much longer the last beat is.
    slowing: float

    @property
    def frames(self) -> int:
        """Length of the piece."""
        return round(self.seconds * RATE_HZ)

    @cached_property
    def bars(self) -> int:
        """Whole bars before the final chord."""
        bar_s = self.beats * self.beat_s
        least_hold_s = min(3.2, max(0.7, 0.12 * self.seconds))
        return max(0, int((self.seconds - least_hold_s - 0.5 * self.slowing * bar_s) / bar_s))

    @cached_property
    def layout(self) -> Layout:
        """The sections, in bars."""
        return lay_out(self.bars)

    def section_at_bar(self, bar: int) -> Section:
        """The section that holds `bar`; from the last bar on, the end."""
        return self.layout.section_at(bar)

    def second(self, beat: float) -> float:
        """The time of `beat` (from the start of the piece), in seconds; the last bar is stretched, evenly growing."""
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
        """Time of the final chord, in seconds."""
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
