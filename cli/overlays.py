"""``motive overlays``: the motion mask playing over the video in the App."""

from __future__ import annotations

import click

from .output import Output, output_options
from .steps import dataset_argument, run_option


@click.group("overlays")
def overlays_group() -> None:
    """Motion masks over the playing video: write and delete them."""


@overlays_group.command("write")
@dataset_argument
@run_option
@click.option("--view", help="tag or saved view whose clips get one [default: all clips]")
@click.option("--dry-run", is_flag=True, help="write nothing; say how many pictures and how much disk")
@output_options(details=True)
def write_command(dataset: str, run: str, view: str | None, dry_run: bool, out: Output) -> None:
    """Write the motion mask of the clips of DATASET as pictures that the App plays over the video.

    \b
    motive overlays write my-clips --view "motive: selection"
    motive overlays write my-clips --dry-run
    """
    import motive_fo
    from motive_fo.dataset.choose import choose_train
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.overlay_files import disk_space
    from motive_fo.dataset.overlays import estimate_overlays

    samples = load_dataset(dataset)
    chosen = samples if view is None else choose_train(samples, view)
    if dry_run:
        report = estimate_overlays(chosen, run)
        lines = [
            f"would write: {report.pictures} pictures of {report.clips} clips, "
            f"up to {disk_space(report.bytes)} in {report.folder}"
        ]
    else:
        with out.progress() as progress:
            report = motive_fo.write_overlays(chosen, run, progress=progress)
        lines = [report.outcome().message]
    out.emit(report.as_dict(), lines)
    out.detail([f"without: {clip_id} ({why})" for clip_id, why in report.skipped.items()])


@overlays_group.command("delete")
@dataset_argument
@run_option
@output_options(progress=False)
def delete_command(dataset: str, run: str, out: Output) -> None:
    """Delete all overlays of a run of DATASET, pictures and frame field.

    \b
    motive overlays delete my-clips
    """
    import motive_fo
    from motive_fo.dataset.overlay_files import disk_space

    freed = motive_fo.delete_overlays(dataset, run)
    out.emit({"freed": freed}, [f"overlays of run {run!r} are deleted, {disk_space(freed)} freed"])
