"""Line charts laid out as SVG paths; the template only writes them down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..record import clean

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 250, 64, 12, 12, 40  # SVG user units

DRAWN = 1e300
"""Numbers up to here have a place on a page: the span between two of them, and a tick beyond, are finite."""

Point = tuple[int, float | None]


@dataclass(frozen=True)
class Line:
    """One series.

    Args:
        path, dots: what SVG's `d` takes; dots only where they are few.
        gaps: how many values are no finite number.
        beyond: how many are finite and have no place on a page.
    """

    name: str
    path: str
    dots: str
    gaps: int
    beyond: int


@dataclass(frozen=True)
class Chart:
    """Everything in SVG user units, as text.

    Args:
        y, x: (place, label) of the ticks.
        mark: place of the vertical line, or None.
    """

    lines: list[Line]
    y: list[tuple[str, str]]
    x: list[tuple[str, int]]
    mark: str | None
    edges: tuple[int, int, int, int] = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)
    size: tuple[int, int] = (WIDTH, HEIGHT)


def plot(series: Mapping[str, Sequence[Any]], log: bool, mark: int | None = None) -> Chart | None:
    """
    Lay out a line chart.

    Args:
        series: {name: values}; value i stands at x = i. None stands for no value and is passed over; nan, infinity and
            what is beyond 1e300 interrupt the line and are counted. On a log scale a value of 0 (bit-equal) lies on
            the bottom edge, labelled 0.
        log: logarithmic y axis.
        mark: index to mark with a vertical line, or None.

    Returns:
        None where there is nothing to draw.
    """
    drawable = {name: thin([drawn(value) for value in values]) for name, values in series.items()}
    numbers = [value for points in drawable.values() for _, value in points if value is not None]
    scaled = [math.log10(value) if log else value for value in numbers if value > 0 or not log]
    if not scaled:
        return None
    has_zero = log and len(scaled) < len(numbers)
    ticks = decades(min(scaled), max(scaled)) if log else even_ticks(min(scaled), max(scaled))
    low, high = ticks[0], ticks[-1]
    if has_zero:
        low -= max(1.0, (high - low) / 6)  # below the smallest power of ten, where no positive value can be
    last = max(len(values) for values in series.values()) - 1

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place / last if last else 0.5)

    def y(height: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - height) / (high - low)

    def height(value: float) -> float:
        return (math.log10(value) if value > 0 else low) if log else value

    lines = []
    for name, points in drawable.items():
        path, dots, pen = [], [], "M"
        for place, value in points:
            if value is None:
                pen = pen if series[name][place] is None else "M"
                continue
            spot = f"{x(place):.1f} {y(height(value)):.1f}"
            path.append(pen + spot + ("h0" if pen == "M" else ""))
            dots.append(f"M{spot}h0")  # a line of length 0 with round caps is a dot
            pen = "L"
        given = [value for value in series[name] if value is not None]
        gaps = sum(clean(value) is None for value in given)
        beyond = sum(drawn(value) is None for value in given) - gaps
        lines.append(Line(name, "".join(path), "".join(dots if last < 60 else []), gaps, beyond))
    labels = [(y(tick), f"1e{tick:.0f}" if log else f"{tick:.10g}") for tick in ticks]
    if has_zero:
        labels.insert(0, (y(low), "0"))
    columns = sorted({round(last * quarter / 4) for quarter in range(5)})
    return Chart(
        lines,
        y=[(f"{spot:.1f}", text) for spot, text in labels],
        x=[(f"{x(place):.1f}", place + 1) for place in columns],
        mark=None if mark is None else f"{x(mark):.1f}",
    )


def drawn(value: Any) -> float | None:
    """A number that can be drawn, as a float; all else as None."""
    value = clean(value)
    return float(value) if value is not None and abs(value) <= DRAWN else None


def thin(values: Sequence[float | None], limit: int = 1200) -> list[Point]:
    """[(index, value)]; long series keep the least and the greatest of each stretch, so no peak is lost."""
    points = list(enumerate(values))
    if len(points) <= limit:
        return points
    width = math.ceil(2 * len(points) / limit)
    kept: list[Point] = []
    for start in range(0, len(points), width):
        solid = [(value, place) for place, value in points[start : start + width] if value is not None]
        extremes = {min(solid)[1], max(solid)[1]} if solid else {start}
        kept += [points[place] for place in sorted(extremes)]
    return kept


def decades(low: float, high: float) -> list[float]:
    """Whole powers of ten around [low, high] (exponents), seven ticks at most."""
    first, last = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    stride = math.ceil((last - first) / 6)
    return [float(power) for power in range(first, last + stride, stride)]


def even_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten around [low, high], about five."""
    size = max(abs(low), abs(high))
    span = high - low
    if span <= max(1e-12 * size, 1 / DRAWN):  # a constant, but for less than a line is wide
        span = size if size > 1 / DRAWN else 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    stride = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / 4)
    first, last = math.floor(low / stride), math.ceil(high / stride)
    return [place * stride for place in range(first, max(last, first + 1) + 1)]
