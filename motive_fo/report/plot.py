"""Plots of the reports, as SVG by matplotlib: small, labelled with units, readable in grey and by the colour-blind.

Shapes: Q queries, S samples (timestep and noise).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from motive_fo.report.page import legible

_BLUE, _ORANGE, _GREY = "#2f5d9b", "#d9772b", "#b9bec9"
_COLOURS: Final = (_GREY, _BLUE, _ORANGE)
_STYLE: Final[Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "motive-fo",  # the same plot is the same bytes
}
_NAMED = 30  # rows of a plot that can be named legibly


@dataclass(frozen=True)
class Plot:
    """A drawing and its text for those who do not see it."""

    svg: bytes
    alt: str


def histogram(title: str, axis: str, series: Mapping[str, Sequence[float]], *, bins: int = 30) -> Plot:
    """Distributions of one quantity over clips, as shares of each series so that small and large ones compare.

    Args:
        axis: name and unit of the quantity.
        series: name -> one value for each clip; at most three; not finite ones are left out. One series shows counts.
    """
    finite = {name: np.asarray([v for v in values if np.isfinite(v)], float) for name, values in series.items()}
    finite = {name: values for name, values in finite.items() if len(values)}
    figure, axes = _figure(4.6, 2.5, title)
    if not finite:
        return _nothing(figure, axes, title)
    pooled = np.concatenate(list(finite.values()))
    low, high = float(pooled.min()), float(pooled.max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    several = len(finite) > 1
    for (name, values), colour in zip(finite.items(), _COLOURS if several else (_BLUE,), strict=False):
        weights = np.full(len(values), 100 / len(values) if several else 1.0)
        label = f"{name} ({len(values)})"
        if several and colour != _GREY:
            axes.hist(values, edges, weights=weights, histtype="step", color=colour, linewidth=1.8, label=label)
        else:
            axes.hist(values, edges, weights=weights, color=colour, label=label)
    axes.set_xlabel(axis)
    axes.set_ylabel("% of clips" if several else "clips")
    if several:
        axes.legend(frameon=False, fontsize=8)
    medians = ", ".join(f"{name}: median {np.median(values):.3g}" for name, values in finite.items())
    return _plot(figure, f"{title}; {medians}")


def bars(title: str, axis: str, counts: Mapping[str, float]) -> Plot:
    """One bar for each name, with its number."""
    figure, axes = _figure(4.6, max(1.2, 0.24 * len(counts) + 0.7), title)
    if not counts:
        return _nothing(figure, axes, title)
    names = list(counts)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn = axes.barh(range(len(names)), list(counts.values()), color=_BLUE)
    axes.bar_label(drawn, fmt="%g", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    return _plot(figure, f"{title}: " + ", ".join(f"{name} {value:g}" for name, value in counts.items()))


def spreads(title: str, axis: str, rows: Mapping[str, npt.NDArray[np.floating]]) -> Plot:
    """Spread of a quantity in each row: line from the 5th to the 95th percentile, box of the middle half, median."""
    figure, axes = _figure(7, max(1.6, 0.2 * len(rows) + 0.9), title)
    if not rows:
        return _nothing(figure, axes, title)
    values = [row[np.isfinite(row)] for row in rows.values()]
    axes.boxplot(
        values,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": "#d5dfee", "edgecolor": _BLUE},
        medianprops={"color": _ORANGE, "linewidth": 1.6},
        whiskerprops={"color": _BLUE},
        capprops={"color": _BLUE},
    )
    axes.set_yticks(range(1, len(rows) + 1), [_short(name) for name in rows])
    axes.invert_yaxis()
    axes.axvline(0, color=_GREY, linewidth=0.8, zorder=0)
    axes.set_xlabel(axis)
    medians = [float(np.median(row)) for row in values if len(row)]
    return _plot(figure, f"{title}; medians from {min(medians):.3g} to {max(medians):.3g}" if medians else title)


def intervals(title: str, axis: str, rows: Mapping[str, tuple[float, float | None, float | None]]) -> Plot:
    """A point for each name, with the interval it lies in where that is known: value, low, high."""
    figure, axes = _figure(4.6, 0.3 * len(rows) + 0.9, title)
    if not rows:
        return _nothing(figure, axes, title)
    for place, (value, low, high) in enumerate(rows.values()):
        if low is not None and high is not None:
            axes.plot((low, high), (place, place), color=_BLUE, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value, place, "o", color=_ORANGE, markersize=5)
    if axes.get_xlim()[0] < 0 < axes.get_xlim()[1]:
        axes.axvline(0, color=_GREY, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    return _plot(figure, f"{title}: " + ", ".join(f"{name} {row[0]:.3g}" for name, row in rows.items()))


def matrix(title: str, names: Sequence[str], values_MM: npt.NDArray[np.floating], *, legend: str) -> Plot:
    """A square of shares, 0 and less (white) to 1 (dark), with its numbers where they can be read."""
    count = len(names)
    named = count <= _NAMED
    cells, words = min(6.0, 0.45 * count + 0.6), 1.9 if named else 0.4  # inches
    figure, axes = _figure(cells + words + 0.9, cells + words, "")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    image = axes.imshow(values_MM, cmap="Blues", vmin=0, vmax=1)
    if named:
        short = [_short(name) for name in names]
        axes.set_xticks(range(count), short, rotation=90)
        axes.set_yticks(range(count), short)
    if count <= 12:
        for (row, column), value in np.ndenumerate(values_MM):
            colour = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, label=legend, shrink=0.8)
    apart = values_MM[~np.eye(count, dtype=bool)]
    mean = f"; mean off the diagonal {apart.mean():.2f}" if apart.size else ""
    return _plot(figure, f"{title}{mean}")


def _figure(width: float, height: float, title: str) -> tuple[Figure, Any]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
    return figure, axes


def _nothing(figure: Figure, axes: Any, title: str) -> Plot:
    axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
    return _plot(figure, f"{title}: no values")


def _plot(figure: Figure, alt: str) -> Plot:
    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # text stays text: whoever shows the page has the glyphs, the font that only measures it need not
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Plot(file.getvalue(), alt)


def _short(name: str, length: int = 26) -> str:
    """A name as a label: one line, cut, and no formula even with dollar signs."""
    line = " ".join(legible(name).split())
    return (line if len(line) <= length else "…" + line[-length + 1 :]).replace("$", r"\$")
