"""``motive curate`` and ``motive what-if``: from stored scores to a selection."""

from __future__ import annotations

from typing import Any

import click

from motive_fo.config import Preset, SelectionConfig

from .options import changes, listed, preset_option, settings_options
from .output import Output, curate_lines, output_options
from .steps import dataset_argument, run_option


@click.command("curate")
@dataset_argument
@run_option
@preset_option
@settings_options(SelectionConfig)
@output_options()
def curate_command(dataset: str, run: str, preset: Preset | None, out: Output, **given: Any) -> None:
    """Votes, ranks, and saved views of the clips to train on. Scores are read, nothing is computed again.

    \b
    motive curate my-clips --budget 0.1
    motive curate my-clips --queries spin --by mean           for one group of queries
    motive curate my-clips --avoid bad/melting.mp4            against a bad generation
    motive curate my-clips --motion-floor 0.2 --collapse 0.95
    motive curate my-clips --quotas "tag:stock<=0.2,caption:person>=0.3"
    """
    import motive_fo

    with out.progress() as progress:
        report = motive_fo.curate(
            dataset, run, selection=changes(SelectionConfig, given), preset=preset, progress=progress
        )
    out.emit(report.as_dict(), curate_lines(report))


@click.command("what-if")
@dataset_argument
@run_option
@click.option("--budgets", callback=listed(float), metavar="N[,N...]", help="budgets to compare")
@click.option("--vote-shares", callback=listed(float), metavar="N[,N...]", help="vote shares to compare")
@output_options(progress=False)
def what_if_command(
    dataset: str,
    run: str,
    budgets: tuple[float, ...] | None,
    vote_shares: tuple[float, ...] | None,
    out: Output,
) -> None:
    """What other budgets and vote shares would select, from the stored scores. Nothing changes.

    kept: share of the present selection that stays. coverage: share of a query's own best clips that is selected,
    mean and least over the queries. majority: clips that more than half of the queries vote for.

    \b
    motive what-if my-clips
    motive what-if my-clips --budgets 0.05,0.1,0.2 --vote-shares 0.1
    """
    import motive_fo

    rows = motive_fo.what_if(dataset, run, budgets=budgets or (), vote_shares=vote_shares or ())
    lines = ["budget  vote share  selected  kept  coverage  least  majority  px/frame"]
    for row in rows:
        moves = "-" if row.motion is None else f"{row.motion:.2f}"
        lines.append(
            f"{row.budget:>6.0%}  {row.vote_share:>10.0%}  {row.selected:>8}  {row.kept:>4.0%}  "
            f"{row.coverage_mean:>8.0%}  {row.coverage_least:>5.0%}  {row.majority:>8}  {moves:>8}"
        )
    out.emit([row.as_dict() for row in rows], lines)
