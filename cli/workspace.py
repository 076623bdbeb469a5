"""``motive workspace``: the App laid out for a run."""

from __future__ import annotations

import click

from .output import Output, output_options
from .steps import dataset_argument, run_option


@click.command("workspace")
@dataset_argument
@run_option
@output_options(progress=False)
def workspace_command(dataset: str, run: str, out: Output) -> None:
    """Save a workspace of the App for a run of DATASET: grid, influence, map, and the run's fields in the sidebar.

    \b
    motive workspace my-clips
    """
    import motive_fo

    name = motive_fo.save_workspace(dataset, run)
    out.emit({"workspace": name}, [f"workspace: {name} (in the App, choose it above the grid)"])
