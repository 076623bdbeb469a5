"""``motive demo``: the whole way on a small corpus, and a short table of what came out."""

from __future__ import annotations

import sys
from textwrap import shorten
from typing import TYPE_CHECKING

import click

from .output import Output, failure_lines, output_options, run_lines, timing_lines

if TYPE_CHECKING:
    from motive_fo.demo_measurement import DemoMeasurement

_SHOWN = 5


@click.command("demo")
@click.option("--folder", default="motive-demo", show_default=True, type=click.Path(), help="clips, store and export")
@click.option("--videos", type=click.Path(), help="your training clips, a folder or listing [default: synthetic clips]")
@click.option("--queries", type=click.Path(), help="your query clips [default: synthetic clips]")
@click.option("--dataset", default="motive-demo", show_default=True, help="name of the dataset")
@output_options(details=True)
def demo_command(folder: str, videos: str | None, queries: str | None, dataset: str, out: Output) -> None:
    """Do everything once: clips, motion, gradients, influence, saved views, export, a little training on the selection.

    \b
    motive demo
    motive demo --videos my-clips/ --dataset my-demo
    """
    from motive_fo.demo import run_demo
    from motive_fo.demo_measurement import measure_demo

    with out.progress() as progress:
        report = run_demo(folder, videos=videos, queries=queries, dataset=dataset, progress=progress)
        measured = None
        if queries is None:  # else no scenes could be made that are like the queries
            measured = measure_demo(folder, dataset, synthetic=videos is None, progress=progress)
    data = report.as_dict() | {"measured": measured and measured.as_dict()}
    out.emit(data, run_lines(report))
    if out.verbose:
        out.detail([*failure_lines(dataset, report.run), *timing_lines(list(report.gradients.values()))])
    if out.as_json:
        return
    _print_table(dataset)
    for line in _measured_lines(measured, dataset):
        click.echo(line)
    seconds = report.seconds + (measured.seconds if measured else 0.0)
    click.echo(f"{seconds:.0f} s in all. Look at it: {sys.argv[0]} app {dataset}")


def _measured_lines(measured: DemoMeasurement | None, dataset: str) -> list[str]:
    """What the selection teaches, beside other sets; or how to find out."""
    if measured is None:
        return [f"is it worth training on? {sys.argv[0]} evaluate attribution {dataset} --trial"]
    from motive_fo.quality.suite import said

    width = max(map(len, measured.falls))
    return [
        f"measured: fall of the motion loss of {measured.queries} other queries by {measured.steps} steps, "
        f"{measured.repeats} trainings on each",
        *(f"  {name:<{width}}  {said(each)} %" for name, each in measured.falls.items()),
        measured.sentence(),
        f"plot: {measured.plot}",
    ]


def _print_table(dataset: str) -> None:
    """The strongest helping and harming clips."""
    from rich.console import Console
    from rich.table import Table

    from motive_fo.dataset.connect import load_dataset
    from motive_fo.influence.doubt import rank_text

    target = load_dataset(dataset)
    table = Table("rank", "clip", "influence", "votes", "px/frame", "caption", box=None, pad_edge=False)
    for kind in ("top by votes", "harmful"):
        view = target.load_saved_view(f"motive: {kind}").limit(_SHOWN)
        names = ("rank", "influence", "influence_doubt", "votes", "motion_mean")
        columns = view.values(["motive_id", "caption", *(f"motive.{name}" for name in names)])
        for clip_id, caption, rank, influence, doubt, votes, motion in zip(*columns, strict=True):
            numbers = (rank_text(influence, doubt), str(votes), f"{motion:.2f}")
            table.add_row(str(rank), clip_id, *numbers, shorten(caption or "", 44))
        table.add_section()
    Console(width=120).print(table)
