"""The report of a run: what was asked, what came out, how far it can be trusted, and what it looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from motive_fo.report.page import render
from motive_fo.report.plot import Plot
from motive_fo.report.strip import ShownClip

Row = Sequence[object]
Pairs = Sequence[tuple[str, object]]


@dataclass(frozen=True)
class SeenQuery:
    """A query with the clips at both ends of its scores.

    Attributes:
        heading: what it is called.
        query: its pictures, or None where its file went missing since.
        most, least: clips of the highest and of the lowest score, the extreme one first.
    """

    heading: str
    query: ShownClip | None
    most: Sequence[ShownClip]
    least: Sequence[ShownClip]


@dataclass(frozen=True)
class RunPage:
    """Everything the page says. Tables are a head and rows; the first column is text, the others numbers.

    Attributes:
        title, summary: the first two lines.
        facts, settings, failures, passed_over: names and values; settings by section.
        clip_plots, score_plots, query_plots, stability_plots, motion_plots: plots of each part.
        query_head, query_rows, motion_head, motion_rows, time_head, time_rows: tables.
        chance: overlap of two unrelated queries, as text.
        stability_text, seen_text: what the part says before its plots or pictures.
        queries: queries with pictures.
    """

    title: str
    summary: str
    facts: Pairs
    settings: Sequence[tuple[str, Pairs]]
    failures: Pairs
    passed_over: Pairs
    clip_plots: Sequence[Plot]
    score_plots: Sequence[Plot]
    query_head: Sequence[str]
    query_rows: Sequence[Row]
    query_plots: Sequence[Plot]
    chance: str
    stability_text: str
    stability_plots: Sequence[Plot]
    motion_head: Sequence[str]
    motion_rows: Sequence[Row]
    motion_plots: Sequence[Plot]
    seen_text: str
    queries: Sequence[SeenQuery]
    time_head: Sequence[str]
    time_rows: Sequence[Row]

    def html(self) -> str:
        """One HTML document."""
        return render("run.html", **{item.name: getattr(self, item.name) for item in fields(self)})
