"""``motive demo``: the whole way on a small corpus, and a short table of what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .output import curate_lines, emit, export_lines, import_lines, shown_progress, step_lines

if TYPE_CHECKING:
    from motive_fo.pipeline.report import StepReport

_SHOWN = 5


@click.command("demo")
@click.option("--folder", default="motive-demo", show_default=True, type=click.Path(), help="clips, store and export")
@click.option("--videos", type=click.Path(), help="your training clips, a folder or listing [default: synthetic clips]")
@click.option("--queries", type=click.Path(), help="your query clips [default: synthetic clips]")
@click.option("--dataset", default="motive-demo", show_default=True, help="name of the dataset")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@click.option("--quiet", is_flag=True, help="no progress")
def demo_command(
    folder: str, videos: str | None, queries: str | None, dataset: str, as_json: bool, quiet: bool
) -> None:
    """Do everything once: clips, motion, gradients, influence, saved views, export.

    \b
    motive demo
    motive demo --videos my-clips/ --dataset my-demo
    """
    from motive_fo.demo import run_demo

    with shown_progress(quiet) as progress:
        report = run_demo(folder, videos=videos, queries=queries, dataset=dataset, progress=progress)
    if as_json:
        emit(report.as_dict(), [], as_json)
        return
    lines = [line for item in report.imports for line in import_lines(item.as_dict())]
    steps: list[StepReport] = [*report.gradients.values(), *([report.influence] if report.influence else [])]
    lines += [line for step in steps for line in step_lines(step)]
    lines += curate_lines(report.curate.views) if report.curate else []
    lines += export_lines(report.export.as_dict()) if report.export else []
    emit({}, lines, as_json)
    _print_table(dataset)
    click.echo(f"{report.seconds:.0f} s in all. Look at it: motive app {dataset}")


def _print_table(dataset: str) -> None:
    """The strongest helping and harming clips."""
    from rich.console import Console
    from rich.table import Table

    from motive_fo.dataset.connect import load_dataset

    target = load_dataset(dataset)
    table = Table("rank", "clip", "influence", "votes", "motion px/frame", "caption", box=None, pad_edge=False)
    for kind in ("top by votes", "harmful"):
        view = target.load_saved_view(f"motive: {kind}").limit(_SHOWN)
        names = ("rank", "influence", "votes", "motion_mean")
        columns = view.values(["motive_id", "caption", *(f"motive.{name}" for name in names)])
        for clip_id, caption, rank, influence, votes, motion in zip(*columns, strict=True):
            text = (caption or "")[:60]
            table.add_row(str(rank), str(clip_id), f"{influence:.1f}", str(votes), f"{motion:.2f}", text)
        table.add_section()
    Console(width=120).print(table)
