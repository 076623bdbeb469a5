"""``motive completion``: what a shell needs to complete our commands, options, choices, datasets and runs.

Datasets and runs are read from the data folder, not from the database: importing FiftyOne takes seconds, and nobody
waits that long for a Tab. So a dataset is offered once it has a run whose store is in its usual place; names with other
characters than letters, digits, ``-`` and ``_`` have these replaced in the data folder and are not offered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes motive: commands, options, choices, datasets, runs.

    \b
    eval "$(motive completion bash)"     in ~/.bashrc; needs bash 4.4 or later
    eval "$(motive completion zsh)"      in ~/.zshrc
    motive completion fish > ~/.config/fish/completions/motive.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click knows no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "motive", "_MOTIVE_COMPLETE").source())


def dataset_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Datasets with a run in the data folder."""
    return sorted(place.name for place in _subfolders() if place.name.startswith(incomplete))


def run_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Runs in the data folder, of the dataset named before where there is one."""
    dataset = ctx.params.get("dataset")
    folders = [place for place in _subfolders() if dataset is None or place.name == re.sub(r"[^\w-]", "-", dataset)]
    names = {store.stem for place in folders for store in place.glob("*.zarr")}
    return sorted(name for name in names if name.startswith(incomplete))


def _subfolders() -> list[Path]:
    from motive_fo.dataset.run_record import data_folder

    try:
        return [place for place in data_folder().iterdir() if any(place.glob("*.zarr"))]
    except OSError:
        return []  # a completion has nowhere to complain
