"""The report of a run: what was asked, what came out, how far it can be trusted, and what it looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from motive_fo.report.page import render
from motive_fo.report.plot import Plot
from motive_fo.report.strip import ShownClip


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: what it shows.
        head, rows: cells; the first column names the row.
        words: the other columns are text, not numbers.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    words: bool = False


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
class Section:
    """A part of the page: its words, then where its figures come from, plots, tables and clips.

    Attributes:
        anchor: its place in the address, one word.
        title: its heading.
        note: what a reader needs to know before.
        source: fingerprints of what its figures were computed from; empty for none.
        plots, tables, seen: what it shows. Tables without rows are left out.
    """

    anchor: str
    title: str
    note: str = ""
    source: str = ""
    plots: Sequence[Plot] = ()
    tables: Sequence[Grid] = ()
    seen: Sequence[SeenQuery] = ()


@dataclass(frozen=True)
class RunPage:
    """Everything the page says.

    Attributes:
        title, summary: the first two lines.
        facts: the table at the top.
        warnings: what makes figures of the page doubtful.
        sections: the rest, in order.
    """

    title: str
    summary: str
    facts: Grid
    warnings: Sequence[str]
    sections: Sequence[Section]

    def html(self) -> str:
        """One HTML document."""
        return render("run.html", **{item.name: getattr(self, item.name) for item in fields(self)})
