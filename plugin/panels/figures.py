"""What the panels draw, as Plotly traces and layouts: plain data that stays small however large the run is.

A browser draws some thousand points well, and an event should not send more than a few hundred kilobytes: scatters are
thinned to ``POINTS`` and matrices cut to ``QUERIES``, and the panel says so where it happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.dataset.exploration import Preview
from motive_fo.dataset.queries import Query

POINTS: Final = 4000
QUERIES: Final = 100
BINS: Final = 50
_EXTREMES: Final = 200  # drawn at each end of the influence whatever else is thinned
_GREY, _ORANGE = "#8a8f98", "#ff6d04"
_MARGIN: Final = {"t": 70, "l": 50, "b": 45, "r": 15}  # a line for the title and one for the legend


def layout(title: str, x: str, y: str, **more: Any) -> dict[str, Any]:
    """A titled layout with a legend between title and axes: a panel can be narrow."""
    return {
        "title": {"text": title, "x": 0.02, "y": 0.95, "font": {"size": 15}},
        "margin": _MARGIN,
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        **more,
    }


INFLUENCE_LAYOUT: Final = layout(
    "Influence of the scored clips", "mean percentile rank, 0 to 100", "clips", barmode="overlay", bargap=0
)
SCATTER_LAYOUT: Final = layout(
    "Votes against influence", "mean percentile rank, 0 to 100", "votes", dragmode="lasso", hovermode="closest"
)
OVERLAP_LAYOUT: Final = layout("Best clips that two queries share", "", "", showlegend=False)
CURVE_LAYOUT: Final = layout("Motion over time", "seconds into the clip", "px per frame", showlegend=False)
CURVE_LAYOUT_STEPS: Final = layout("Motion over time", "frame of the clip", "px per frame", showlegend=False)


def influence_bars(preview: Preview) -> list[dict[str, Any]]:
    """Histogram of the influence of all scored clips and of the selection, and a line at the selection's lowest."""
    ranks = preview.made.ranking.rank
    edges = np.linspace(0, 100, BINS + 1)
    centres = ((edges[1:] + edges[:-1]) / 2).tolist()
    counts = {
        "all scored": (np.histogram(ranks, edges)[0], _GREY),
        "selected": (np.histogram(ranks[preview.selected_R], edges)[0], _ORANGE),
    }
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": name,
            "x": centres,
            "y": count.tolist(),
            "width": 100 / BINS,
            "marker": {"color": colour},
            "hovertemplate": "%{y} clips around %{x:.0f}",
        }
        for name, (count, colour) in counts.items()
    ]
    if preview.selected_R.any():
        cut = float(ranks[preview.selected_R].min())
        top = int(counts["all scored"][0].max())
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"lowest selected: {cut:.1f}",
                "x": [cut, cut],
                "y": [0, top],
                "line": {"color": _ORANGE, "dash": "dot", "width": 2},
                "hoverinfo": "name",
            }
        )
    return traces


def vote_points(preview: Preview, sample_ids: Mapping[str, str]) -> tuple[list[dict[str, Any]], int]:
    """Every clip as a point, thinned to ``POINTS``, with its sample id; selected ones apart.

    Votes are whole numbers, so points are spread by up to 0.3 votes up and down, always the same way.

    Returns:
        the traces, and how many points they hold.
    """
    ranking = preview.made.ranking
    present_R = np.asarray([clip_id in sample_ids for clip_id in ranking.ids], np.bool_)
    drawn = drawn_points(ranking.rank, preview.selected_R, present_R)
    # the golden ratio's multiples fill an interval evenly
    spread_R = ((np.arange(len(ranking.ids)) * 0.618034) % 1 - 0.5) * 0.6
    traces = []
    for name, part_R, colour in (
        ("not selected", ~preview.selected_R, _GREY),
        ("selected", preview.selected_R, _ORANGE),
    ):
        places = drawn[part_R[drawn]]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "ids": [sample_ids[ranking.ids[n]] for n in places.tolist()],
                "x": np.round(ranking.rank[places], 2).tolist(),
                "y": np.round(ranking.votes[places] + spread_R[places], 2).tolist(),
                "marker": {"color": colour, "size": 5, "opacity": 0.7},
                "hovertemplate": "influence %{x:.1f}, about %{y:.0f} votes",
            }
        )
    return traces, len(drawn)


def drawn_points(
    rank_R: npt.NDArray[np.floating], selected_R: npt.NDArray[np.bool_], present_R: npt.NDArray[np.bool_]
) -> npt.NDArray[np.intp]:
    """Places of the points to draw: all, or the extremes, then the selection, then the others, each thinned evenly
    along the influence so that ``POINTS`` remain. The same input gives the same points.
    """
    order = np.argsort(rank_R, kind="stable")
    order = order[present_R[order]]
    if len(order) <= POINTS:
        return order
    ends = np.concatenate((order[:_EXTREMES], order[-_EXTREMES:]))
    middle = order[_EXTREMES:-_EXTREMES]
    left = POINTS - len(ends)
    chosen, others = middle[selected_R[middle]], middle[~selected_R[middle]]
    # the selection has up to half of the room, and all that the others leave
    kept = _evenly(chosen, max(left // 2, left - len(others)))
    return np.concatenate((ends, kept, _evenly(others, left - len(kept))))


def overlap_map(queries: Sequence[Query], overlap_QQ: npt.NDArray[np.floating]) -> list[dict[str, Any]]:
    """The shares of best clips that queries have in common, for the first ``QUERIES`` of them."""
    labels = query_labels(queries[:QUERIES])
    return [
        {
            "type": "heatmap",
            "x": labels,
            "y": labels,
            "z": np.round(overlap_QQ[:QUERIES, :QUERIES], 3).tolist(),
            "zmin": 0,
            "zmax": 1,
            "colorscale": "Viridis",
            "colorbar": {"title": {"text": "share"}, "thickness": 12},
            "hovertemplate": "%{x} and %{y}: %{z:.0%}<extra></extra>",
        }
    ]


def query_labels(queries: Sequence[Query]) -> list[str]:
    """Short names that differ: group and number within it, or the file's name and number."""
    seen: Counter[str] = Counter()
    labels = []
    for query in queries:
        word = query.group or PurePosixPath(query.id).stem
        seen[word] += 1
        labels.append(f"{word} {seen[word]}" if query.group or seen[word] > 1 else word)
    return labels


def motion_line(curve: Sequence[float], fps: float | None) -> list[dict[str, Any]]:
    """Mean motion of each frame over the seconds of the clip, or over its frames where their rate is not known."""
    x = [round((n + 1) / fps, 4) if fps else n + 1 for n in range(len(curve))]
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "motion",
            "x": x,
            "y": [round(value, 4) for value in curve],
            "line": {"color": _ORANGE},
            "hovertemplate": "%{y:.3f} px per frame",
        }
    ]


def _evenly(places: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, max(0, count)).astype(np.intp)]
