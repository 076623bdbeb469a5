"""``motive map``: the gradient sketches as a map and a similarity index in the App."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .output import Output, output_options
from .steps import dataset_argument, run_option

if TYPE_CHECKING:
    from motive_fo.dataset.embeddings import Method, Score


@click.command("map")
@dataset_argument
@run_option
@click.option("--view", help="tag or saved view to map [default: all clips]")
@click.option(
    "--method", type=click.Choice(["pca", "umap"]), default="pca", show_default=True, help="umap needs umap-learn"
)
@click.option(
    "--score",
    type=click.Choice(["motion", "whole"]),
    default="motion",
    show_default=True,
    help="gradients of the motion or of the whole clip",
)
@output_options()
def map_command(dataset: str, run: str, view: str | None, method: Method, score: Score, out: Output) -> None:
    """Map the clips of DATASET by their gradients, for the App's Embeddings panel, and index them by similarity.

    \b
    motive map my-clips
    motive map my-clips --view "motive: selection" --score whole
    """
    import motive_fo
    from motive_fo.dataset.choose import choose_train
    from motive_fo.dataset.connect import load_dataset

    samples = load_dataset(dataset)
    chosen = samples if view is None else choose_train(samples, view)
    with out.progress() as progress:
        report = motive_fo.map_sketches(chosen, run, method=method, score=score, progress=progress)
    said = report.outcome()
    out.emit(report.as_dict(), [said.message, *(f"  {reason}" for reason in said.reasons)])
