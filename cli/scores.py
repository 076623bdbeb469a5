"""``motive scores``: every number of a run in one file."""

from __future__ import annotations

import click

from .output import Output, output_options
from .steps import dataset_argument, run_option


@click.command("scores")
@dataset_argument
@click.argument("file", type=click.Path(dir_okay=False))
@run_option
@click.option("--long", is_flag=True, help="one row per clip and query instead of one column per query")
@click.option("--overwrite", is_flag=True, help="replace FILE")
@output_options()
def scores_command(dataset: str, file: str, run: str, long: bool, overwrite: bool, out: Output) -> None:
    """Write everything RUN knows of the training clips of DATASET into FILE, a .csv or .parquet.

    One row per clip: id, path, caption, state, motion, loss, influence, votes, ranks, and the cosine with each query.

    \b
    motive scores my-clips scores.csv
    motive scores my-clips cosines.parquet --long
    """
    import motive_fo

    with out.progress() as progress:
        report = motive_fo.write_scores(dataset, file, run, long=long, overwrite=overwrite, progress=progress)
    line = f"scores: {report.rows} rows, {len(report.columns)} columns ({report.queries} queries) in {report.file}"
    out.emit(report.as_dict(), [line])
