"""``motive report``: one page that explains a run."""

from __future__ import annotations

import click

from .output import Output, output_options
from .steps import dataset_argument, run_option


@click.command("report")
@dataset_argument
@click.argument("file", type=click.Path())
@run_option
@click.option("--shown", default=3, show_default=True, type=click.IntRange(0, 20), help="clips at each end of a query")
@click.option("--queries", default=12, show_default=True, type=click.IntRange(0), help="queries shown with their clips")
@output_options()
def report_command(dataset: str, file: str, run: str, shown: int, queries: int, out: Output) -> None:
    """Write FILE, one HTML page on a run of DATASET: settings, errors, scores, votes, overlap, stability, pictures.

    \b
    motive report my-clips report.html
    motive report my-clips report.html --run other --queries 50
    """
    import motive_fo

    with out.progress() as progress:
        path = motive_fo.write_report(dataset, file, run, shown=shown, queries=queries, progress=progress)
    out.emit({"report": str(path)}, [f"report: {path}"])
