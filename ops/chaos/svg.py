"""A line chart as SVG text: panels one above the other, over one axis. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

#: Size of a panel with its margins, in pixels.
_WIDTH: Final = 900
_HEIGHT: Final = 260
_LEFT: Final = 60
_RIGHT: Final = 130
_TOP: Final = 28
_BOTTOM: Final = 34
_COLOURS: Final = ("#1b6ca8", "#d1495b", "#3a7d44", "#8d5b9b", "#c98a1b", "#2a9d8f", "#6c757d", "#b5651d")
_NUM_TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel."""

    name: str
    #: (x, y), x ascending.
    points: Sequence[tuple[float, float]]


def chart(panels: Sequence[tuple[str, Sequence[Curve]]], x_title: str) -> str:
    """The SVG of `panels`, each a title and its curves. Both axes begin at 0; curves without points are left out."""
    body = [_panel(title, curves, x_title, index * _HEIGHT) for index, (title, curves) in enumerate(panels)]
    size = f'width="{_WIDTH}" height="{len(panels) * _HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""])


def _panel(title: str, curves: Sequence[Curve], x_title: str, y0: int) -> str:
    drawn = [curve for curve in curves if curve.points]
    most_x = max((x for curve in drawn for x, _ in curve.points), default=0.0) or 1.0
    most_y = 1.1 * max((y for curve in drawn for _, y in curve.points), default=0.0) or 1.0
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    bottom = y0 + _TOP + high
    out = [_text(_LEFT, y0 + 16, title, weight="bold"), _text(_LEFT + wide - 40, bottom + 28, x_title)]
    for tick in range(_NUM_TICKS + 1):
        share = tick / _NUM_TICKS
        y = bottom - share * high
        out += [
            f'<line x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            _text(_LEFT - 6, y + 4, f"{share * most_y:.0f}", anchor="end"),
            _text(_LEFT + share * wide, bottom + 15, f"{share * most_x:.1f}", anchor="middle"),
        ]
    for index, curve in enumerate(drawn):
        colour = _COLOURS[index % len(_COLOURS)]
        points = " ".join(f"{_LEFT + x / most_x * wide:.1f},{bottom - y / most_y * high:.1f}" for x, y in curve.points)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(_text(_LEFT + wide + 10, y0 + _TOP + 14 * index + 8, curve.name, colour=colour))
    return "\n".join(out)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = "#333") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
