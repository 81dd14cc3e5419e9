"""Plots as one SVG document: bars in groups, one chart below the other, readable on light and dark pages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 58, 30
_COLORS = ("#2f7ed8", "#e07b39", "#3a9d5d", "#a463c4", "#c94f5f", "#8a8f98")
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.value { font-size: 10px }
.grid { stroke: #24292f; stroke-opacity: .15 }
.limit { stroke: #24292f; stroke-dasharray: 5 4; stroke-opacity: .7 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .grid, .limit { stroke: #e6edf3 }
}"""


@dataclass(frozen=True)
class Chart:
    """Bars in groups: a group for each label, and in it a bar for each series."""

    title: str
    labels: tuple[str, ...]
    series: Mapping[str, Sequence[float | None]]
    """The values by the name of the series, one for each label. ``None``: no bar."""
    limit: float | None = None
    """Where to draw a dashed line, such as the physical limit."""


def render(charts: Sequence[Chart]) -> str:
    height = _HEIGHT * max(len(charts), 1)
    body = "\n".join(
        f'<g transform="translate(0 {number * _HEIGHT})">\n{_chart(chart)}\n</g>' for number, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">\n'
        f"<style>\n{_STYLE}\n</style>\n{body}\n</svg>\n"
    )


def steps(highest: float) -> list[float]:
    """The values of the grid's lines from 0 up to at least ``highest``: 1, 2, 2.5 or 5 times a power of ten apart."""
    if highest <= 0:
        return [0.0, 1.0]
    least = highest / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * 0.999)
    return [number * step for number in range(math.ceil(highest / step * 0.999) + 1)]


def _chart(chart: Chart) -> str:
    values = [value for line in chart.series.values() for value in line if value is not None]
    grid = steps(max([*values, chart.limit or 0.0]))
    scale = (_HEIGHT - _TOP - _BOTTOM) / grid[-1]
    parts = [_text(_LEFT, 20, chart.title, "title"), *_legend(chart)]
    for step in grid:
        y = _HEIGHT - _BOTTOM - step * scale
        parts.append(_line(y, "grid"))
        parts.append(_text(_LEFT - 8, y + 4, f"{step:g}", anchor="end"))
    group = (_WIDTH - _LEFT - _RIGHT) / max(len(chart.labels), 1)
    bar = min(group * 0.8 / max(len(chart.series), 1), 64)
    for place, label in enumerate(chart.labels):
        middle = _LEFT + group * (place + 0.5)
        parts.append(_text(middle, _HEIGHT - 10, label, anchor="middle"))
        for number, line in enumerate(chart.series.values()):
            value = line[place]
            if value is not None:
                x, height = middle + bar * (number - len(chart.series) / 2), value * scale
                parts.append(_bar(x, bar, height, number))
                parts.append(_text(x + bar / 2, _HEIGHT - _BOTTOM - height - 4, _short(value), "value", "middle"))
    if chart.limit is not None:
        parts.append(_line(_HEIGHT - _BOTTOM - chart.limit * scale, "limit"))
    return "\n".join(parts)


def _legend(chart: Chart) -> list[str]:
    parts, x = [], float(_LEFT)
    for number, name in enumerate(chart.series):
        parts.append(f'<rect x="{x:.1f}" y="30" width="10" height="10" fill="{_color(number)}"/>')
        parts.append(_text(x + 14, 39, name))
        x += 30 + 7 * len(name)
    return parts


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _color(number: int) -> str:
    return _COLORS[number % len(_COLORS)]


def _bar(x: float, width: float, height: float, number: int) -> str:
    y = _HEIGHT - _BOTTOM - height
    return (
        f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{max(width - 2, 1):.1f}" height="{height:.1f}" '
        f'fill="{_color(number)}"/>'
    )


def _line(y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
