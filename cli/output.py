"""What the command line shows: progress with ETA on the error stream, results as short text or JSON on the output."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from motive_fo.dataset.whole import RunReport
    from motive_fo.pipeline.report import StepReport
    from motive_fo.progress import Progress

_LOG_EVERY = 10.0  # seconds between lines where the error stream is no terminal


@contextmanager
def shown_progress(quiet: bool = False) -> Iterator[Progress]:
    """Progress bars on a terminal, a line every ten seconds elsewhere, nothing when quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet:
        yield lambda label, done, total: None
        return
    if not console.is_terminal:
        yield _LineProgress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(label: str, done: int, total: int) -> None:
            if total and label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            if total:
                bars.update(tasks[label], completed=done, total=total)

        yield show


class _LineProgress:
    """``label 40/120, about 25 s left`` on the error stream, now and then."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._said = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = self._started.setdefault(label, now)
        if now - self._said >= _LOG_EVERY and 0 < done < total:
            self._said = now
            left = (now - start) / done * (total - done)
            click.echo(f"{label} {done}/{total}, about {left:.0f} s left", err=True)


def emit(data: dict[str, Any] | list[Any], lines: list[str], as_json: bool) -> None:
    """Print a result as JSON or as text."""
    if as_json:
        click.echo(json.dumps(data, indent=1, ensure_ascii=False))
    else:
        for line in lines:
            click.echo(line)


def step_lines(report: StepReport) -> list[str]:
    """A step's report in a line or two."""
    states = ", ".join(f"{count} {name}" for name, count in sorted(report.status.items()))
    new = "all computed before" if not report.computed else f"{report.computed} computed now"
    lines = [f"{report.step}: {report.clips} clips ({states}), {new}, {report.seconds.get('total', 0):.1f} s"]
    if report.codes:
        lines.append("  failed: " + ", ".join(f"{code} {count}" for code, count in report.codes.most_common()))
    return lines + [f"  note: {note}" for note in report.notes]


def run_lines(report: RunReport) -> list[str]:
    """A whole run's report, step by step."""
    lines = [line for item in report.imports for line in import_lines(item.as_dict())]
    lines += [line for step in report.gradients.values() for line in step_lines(step)]
    lines += step_lines(report.influence) if report.influence else []
    lines += curate_lines(report.curate.views) if report.curate else []
    return lines + (export_lines(report.export.as_dict()) if report.export else [])


def import_lines(data: dict[str, Any]) -> list[str]:
    """An import's report in a line or two."""
    line = (
        f"import: {data['added']} new, {data['updated']} updated, {data['unchanged']} unchanged in {data['dataset']!r}"
    )
    lines = [line]
    if data["without_caption"]:
        lines.append(f"  {data['without_caption']} without a caption")
    if data["unreadable"]:
        lines.append(f"  {data['unreadable']} cannot be opened; every step will record why on the sample")
    if data["skipped"]:
        shown = ", ".join(data["skipped"][:5]) + (", ..." if len(data["skipped"]) > 5 else "")
        lines.append(f"  {len(data['skipped'])} skipped, no video by name or no caption: {shown}")
    return lines


def curate_lines(views: dict[str, int]) -> list[str]:
    """Saved views with their sizes."""
    width = max((len(name) for name in views), default=0)
    return ["saved views:", *(f"  {name:<{width}}  {count}" for name, count in views.items())]


def export_lines(data: dict[str, Any]) -> list[str]:
    """An export's report."""
    lines = [f"export: {data['written']} clips in {data['folder']}"]
    if data["without_caption"]:
        lines.append(f"  {data['without_caption']} without a caption")
    if data["skipped"]:
        first = next(iter(data["skipped"].items()))
        lines.append(f"  {len(data['skipped'])} skipped, the first: {first[0]} ({first[1]})")
    return [*lines, f"  train with: {data['command']}"]
