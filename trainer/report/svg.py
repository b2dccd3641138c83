"""Charts as inline SVG: lines with whiskers, stacked areas, strips of cells. Text is escaped.

Colours of text and grid are attributes, which a page's style (classes label, grid, empty) may put its own over.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from trainer.escaping import for_html

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34
INK, GRID = "#5d6673", "#e2e6ea"
MOST = 400  # points of a line, cells of a strip


@dataclass(frozen=True)
class Line:
    """A line, its points in the order of `xs`. raw: pale, without a legend, behind the others. low, high: whiskers."""

    name: str
    color: str
    xs: Sequence[float]
    ys: Sequence[float]
    raw: bool = False
    dashed: bool = False
    points: bool = False
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def line_chart(lines: Sequence[Line], *, title: str, x: str, y: str, top: float | None = None) -> str:
    """Lines over a common scale, which begins at 0 where values are not below; `top`: where it ends at least."""
    values = [value for line in lines for value in (*line.ys, *(line.low or ()), *(line.high or ()))]
    frame = _Frame([v for line in lines for v in line.xs], [0.0, *values, *([] if top is None else [top])], x, y)
    parts = [frame.axes()]
    for line in sorted(lines, key=lambda line: not line.raw):
        xs, ys = thin(line.xs, line.ys)
        path = "M" + "L".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in zip(xs, ys, strict=True))
        style = f'stroke="{line.color}" stroke-width="{1 if line.raw else 2}"' + (' stroke-opacity="0.3"' if line.raw else "")
        style += ' stroke-dasharray="5 4"' if line.dashed else ""
        if len(xs) > 1:
            parts.append(f'<path d="{path}" fill="none" stroke-linejoin="round" {style}/>')
        for low, high, a in zip(line.low or (), line.high or (), line.xs, strict=False):
            at = f"{frame.x(a):.1f}"
            parts.append(
                f'<path d="M{at},{frame.y(low):.1f}V{frame.y(high):.1f}" stroke="{line.color}" stroke-opacity="0.45" '
                'stroke-width="3" stroke-linecap="round"/>'
            )
        if line.points or len(xs) == 1:
            for a, b in zip(xs, ys, strict=True):
                parts.append(
                    f'<circle cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="3.5" fill="{line.color}">'
                    f"<title>{for_html(line.name)}, {number(a)}: {number(b)}</title></circle>"
                )
    return _svg(title, parts) + legend({line.name: line.color for line in lines if not line.raw})


Layer = tuple[str, str, Sequence[float]]


def stacked_chart(xs: Sequence[float], layers: Sequence[Layer], *, title: str, x: str, y: str) -> str:
    """Areas on top of one another, the first lowest: (name, colour, values)."""
    below = [0.0] * len(xs)
    shapes, most = [], [0.0]
    for name, color, ys in layers:
        above = [a + b for a, b in zip(below, ys, strict=True)]
        shapes.append((name, color, below, above))
        most += above
        below = above
    frame = _Frame(xs, most, x, y)
    parts = [frame.axes()]
    for name, color, lower, upper in shapes:
        at, up = thin(xs, upper)
        down = thin(xs, lower)[1]
        edge = [f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in zip(at, up, strict=True)]
        edge += [f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in zip(reversed(at), reversed(down), strict=True)]
        parts.append(f'<path d="M{"L".join(edge)}Z" fill="{color}" fill-opacity="0.85"><title>{for_html(name)}</title></path>')
    return _svg(title, parts) + legend({name: color for name, color, _ in layers})


def strips(rows: Sequence[tuple[str, str, Mapping[int, float]]], *, title: str, x: str, unit: str) -> str:
    """A row of cells for each (name, colour, {step: value}), stronger where the value is higher; empty where it is 0."""
    steps = sorted({step for _, _, cells in rows for step in cells})
    most = max([1e-12, *(value for _, _, cells in rows for value in cells.values())])
    height, left = 22, 78
    last, span = len(steps), WIDTH - left - RIGHT
    bins = [steps[i * last // min(last, MOST) : (i + 1) * last // min(last, MOST)] for i in range(min(last, MOST))]
    parts = []
    for r, (name, color, cells) in enumerate(rows):
        middle = TOP + r * (height + 6) + height / 2
        parts.append(f'<text x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">{for_html(name)}</text>')
        where = f'x="{left}" y="{middle - height / 2}" width="{span}" height="{height}"'
        parts.append(f'<rect {where} class="empty" fill="{GRID}"/>')
        for i, group in enumerate(bins):
            value = sum(cells.get(step, 0.0) for step in group) / len(group)
            if value > 0:
                begin, end = left + span * i / len(bins), left + span * (i + 1) / len(bins)
                where = f"step {group[0]}" if len(group) == 1 else f"steps {group[0]}-{group[-1]}"
                parts.append(
                    f'<rect x="{begin:.2f}" y="{middle - height / 2}" width="{max(end - begin - 0.3, 0.5):.2f}" '
                    f'height="{height}" fill="{color}" fill-opacity="{0.25 + 0.75 * value / most:.2f}">'
                    f"<title>{for_html(name)}, {where}: {number(value)} {for_html(unit)}</title></rect>"
                )
    bottom = TOP + len(rows) * (height + 6)
    for step in dict.fromkeys([steps[0], steps[last // 2], steps[-1]] if steps else []):
        at = left + span * (steps.index(step) + 0.5) / last
        parts.append(f'<text x="{at:.1f}" y="{bottom + 12}" text-anchor="middle">{step}</text>')
    parts.append(f'<text x="{left + span / 2}" y="{bottom + 28}" text-anchor="middle" class="label">{for_html(x)}</text>')
    return _svg(title, parts, bottom + 36)


def legend(colors: Mapping[str, str]) -> str:
    """Names beside their colours; nothing for a single one."""
    if len(colors) < 2:
        return ""
    items = "".join(f'<span><i style="background:{color}"></i>{for_html(name)}</span>' for name, color in colors.items())
    return f'<div class="legend">{items}</div>'


def number(value: float) -> str:
    """At most four digits that matter."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"


def thin(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most MOST points: the means of as many pieces."""
    count = len(xs)
    if count <= MOST:
        return list(xs), list(ys)
    cuts = [i * count // MOST for i in range(MOST + 1)]
    pieces = list(pairwise(cuts))
    return [sum(xs[a:b]) / (b - a) for a, b in pieces], [sum(ys[a:b]) / (b - a) for a, b in pieces]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` or below to `high` or above."""
    span = (high - low) or abs(high) or 1.0
    rough = span / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


class _Frame:
    """The plane of a chart."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], x_label: str, y_label: str) -> None:
        self.labels = x_label, y_label
        self.x_low, self.x_high = min(xs, default=0.0), max(xs, default=1.0)
        if self.x_low == self.x_high:
            self.x_low, self.x_high = self.x_low - 0.5, self.x_high + 0.5
        self.y_ticks = ticks(min(ys, default=0.0), max(ys, default=1.0))

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> str:
        parts = []
        for value in self.y_ticks:
            at = f"{self.y(value):.1f}"
            parts.append(f'<path d="M{LEFT},{at}H{WIDTH - RIGHT}" class="grid" stroke="{GRID}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{number(value)}</text>')
        for value in ticks(self.x_low, self.x_high, 6):
            if self.x_low <= value <= self.x_high and value == round(value):
                parts.append(
                    f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>'
                )
        x_label, y_label = map(for_html, self.labels)
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle" class="label">{x_label}</text>'
        )
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text x="12" y="{middle}" text-anchor="middle" class="label" transform="rotate(-90 12 {middle})">{y_label}</text>'
        )
        return "".join(parts)


def _svg(title: str, parts: Sequence[str], height: float = HEIGHT) -> str:
    inner = f'<g font-size="11.5" font-family="sans-serif" fill="{INK}">{"".join(parts)}</g>'
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{for_html(title)}">{inner}</svg>'
