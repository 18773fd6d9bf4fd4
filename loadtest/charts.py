"""Plots as inline SVG, drawn with the colours of the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

WIDE, NARROW, HEIGHT = 960, 440, 250
"""Of pictures, in pixels of the page where it has room, so that all have text of one size."""
LEFT, RIGHT, TOP, BOTTOM = 52, 28, 14, 34
MOST_POINTS = 3000

Point = tuple[float, float]


def ticks(highest: float, count: int = 5) -> list[float]:
    """Returns round numbers from 0 to `highest` or a little over it, about `count` of them."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


class Plot:
    """Axes, and what is drawn between them."""

    def __init__(
        self,
        across: float,
        up: float,
        *,
        across_unit: Callable[[float], str],
        up_unit: Callable[[float], str],
        label: str,
        width: int = WIDE,
    ) -> None:
        """Begins a plot.

        Args:
            across: the largest value on the horizontal axis; the smallest is 0.
            up: the same of the vertical axis.
            across_unit: writes a value of the horizontal axis.
            up_unit: writes one of the vertical axis.
            label: what the plot shows, for those who cannot see it.
            width: of the picture.
        """
        self._width = width
        self._across, self._up = ticks(across, width // 100), ticks(up)
        self._parts: list[str] = []
        self._label = label
        for value in self._up:
            y = self.y(value)
            self._parts.append(f'<line class="grid" x1="{LEFT}" x2="{self._width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{up_unit(value)}</text>')
        for value in self._across:
            x = self.x(value)
            self._parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{across_unit(value)}</text>'
            )

    def x(self, value: float) -> float:
        """Returns where a value of the horizontal axis is."""
        return LEFT + (self._width - LEFT - RIGHT) * value / self._across[-1]

    def y(self, value: float) -> float:
        """Returns where a value of the vertical axis is."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self._up[-1]

    def dots(self, points: Sequence[tuple[float, float, str, str]]) -> None:
        """Draws points: across, up, the class of the kind, and what to say of each."""
        for across, up, kind, title in thin(points):
            self._parts.append(
                f'<circle class="{kind}" cx="{self.x(across):.1f}" cy="{self.y(up):.1f}" r="2.6">'
                f"<title>{escape(title)}</title></circle>"
            )

    def line(self, points: Sequence[Point], kind: str, *, steps: bool = False, area: bool = False) -> None:
        """Draws a line through points; in `steps` it keeps each value until the next, `area` fills below it."""
        if not points:
            return
        placed = [(self.x(across), self.y(up)) for across, up in thin(points)]
        path = f"M{placed[0][0]:.1f} {placed[0][1]:.1f}"
        for x, y in placed[1:]:
            path += f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}"
        if area:
            bottom = self.y(0)
            self._parts.append(f'<path class="{kind} area" d="{path}V{bottom:.1f}H{placed[0][0]:.1f}Z"/>')
        self._parts.append(f'<path class="{kind} stroke" d="{path}"/>')

    def mark(self, value: float, text: str, *, upright: bool = False) -> None:
        """Draws a dashed line across at a value, or `upright` at one of the horizontal axis, and its name."""
        if upright:
            x = self.x(value)
            self._parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            self._parts.append(f'<text class="name" x="{x + 5:.1f}" y="{TOP + 10}">{escape(text)}</text>')
            return
        y = self.y(value)
        self._parts.append(f'<line class="mark" x1="{LEFT}" x2="{self._width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        self._parts.append(
            f'<text class="name" x="{self._width - RIGHT}" y="{y - 5:.1f}" text-anchor="end">{escape(text)}</text>'
        )

    def svg(self) -> str:
        """Returns the picture."""
        return _svg(self._width, HEIGHT, self._label, "".join(self._parts))


def bars(rows: Sequence[tuple[str, float, float, float]], unit: Callable[[float], str], label: str) -> str:
    """Returns one bar a row: its name, and the ends of its dark, middle and light part, as p50, p95 and p99."""
    name, line, right = 190, 34, 74
    highest = max((row[3] for row in rows), default=0.0) or 1.0
    width = WIDE - name - right
    parts = []
    for number, (text, p50, p95, p99) in enumerate(rows):
        y = 4 + number * line
        parts.append(f'<text class="row" x="{name - 12}" y="{y + 17}" text-anchor="end">{escape(text)}</text>')
        for value, kind in ((p99, "p99"), (p95, "p95"), (p50, "p50")):
            length = max(1.5, width * value / highest)
            parts.append(
                f'<rect class="{kind}" x="{name}" y="{y + 3}" width="{length:.1f}" height="20" rx="3">'
                f"<title>{escape(text)}: {kind} {unit(value)}</title></rect>"
            )
        end = name + max(1.5, width * p99 / highest) + 8
        parts.append(f'<text x="{end:.1f}" y="{y + 17}">{unit(p99)}</text>')
    return _svg(WIDE, 8 + line * len(rows), label, "".join(parts))


def thin(points: Sequence[Point] | Sequence[tuple[float, float, str, str]]) -> Sequence[tuple]:  # type: ignore[type-arg]
    """Returns as many of `points` as a picture can show, evenly chosen."""
    if len(points) <= MOST_POINTS:
        return points
    step = len(points) / MOST_POINTS
    return [points[int(number * step)] for number in range(MOST_POINTS)]


def _svg(width: int, height: int, label: str, inside: str) -> str:
    size = ' class="wide"' if width == WIDE else ""
    return (
        f'<svg{size} viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">{inside}</svg>'
    )
