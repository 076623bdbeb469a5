"""``motive motion``: compute it, read about it on a page, look at one clip of it."""

from __future__ import annotations

from typing import Any

import click

from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig

from .options import changes, settings_options
from .output import emit, shown_progress, step_lines
from .steps import dataset_argument, json_option, quiet_option, retry_option, run_option, store_option


class _ComputesByDefault(click.Group):
    """``motive motion DATASET`` computes; ``page`` and ``show`` are asked for by name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["compute", *args]
        return super().parse_args(ctx, args)


@click.group("motion", cls=_ComputesByDefault)
def motion_group() -> None:
    """Motion of every clip: statistics, curve, mask. No gradients."""


@motion_group.command("compute")
@dataset_argument
@run_option
@click.option("--view", help="tag or saved view to compute [default: all clips]")
@settings_options(ClipConfig, FlowConfig, MotionConfig)
@settings_options(AttributionConfig, only=("model",))
@store_option
@retry_option
@json_option
@quiet_option
def compute_command(
    dataset: str,
    run: str,
    view: str | None,
    store: str | None,
    retry_failed: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Motion of every clip: statistics, curve, mask. No gradients.

    \b
    motive motion my-clips
    motive motion my-clips --fps 16 --frames 33 --run longer
    motive motion page my-clips motion.html
    motive motion show my-clips clips/0001.mp4 pictures/
    """
    import motive_fo
    from motive_fo.dataset.choose import choose_train
    from motive_fo.dataset.connect import load_dataset

    samples = load_dataset(dataset)
    with shown_progress(quiet) as progress:
        report = motive_fo.compute_motion(
            samples if view is None else choose_train(samples, view),
            run,
            clip=changes(ClipConfig, given),
            flow=changes(FlowConfig, given),
            motion=changes(MotionConfig, given),
            model=given["model"],
            store=store,
            retry_failed=retry_failed,
            progress=progress,
        )
    emit(report.as_dict(), step_lines(report), as_json)


@motion_group.command("page")
@dataset_argument
@click.argument("file", type=click.Path())
@run_option
@click.option("--shown", default=6, show_default=True, type=click.IntRange(0, 100), help="clips shown of each kind")
@json_option
@quiet_option
def page_command(dataset: str, file: str, run: str, shown: int, as_json: bool, quiet: bool) -> None:
    """Write FILE, one HTML page on the motion of DATASET: distributions, filmstrips, flow, masks.

    \b
    motive motion page my-clips motion.html
    """
    from motive_fo.dataset.motion_report import write_motion_page

    with shown_progress(quiet) as progress:
        path = write_motion_page(dataset, file, run, shown=shown, progress=progress)
    emit({"page": str(path)}, [f"page: {path}"], as_json)


@motion_group.command("show")
@dataset_argument
@click.argument("clip")
@click.argument("folder", type=click.Path())
@run_option
@json_option
def show_command(dataset: str, clip: str, folder: str, run: str, as_json: bool) -> None:
    """Write pictures and videos of one CLIP's motion into FOLDER: frames, flow, magnitude, mask.

    \b
    motive motion show my-clips clips/0001.mp4 pictures/
    """
    from motive_fo.dataset.motion_report import show_motion

    files = [str(path) for path in show_motion(dataset, clip, folder, run)]
    emit({"files": files}, files, as_json)


@motion_group.command("like")
@dataset_argument
@click.argument("clip")
@run_option
@click.option("--top", default=10, show_default=True, type=click.IntRange(1), help="clips to list")
@json_option
def like_command(dataset: str, clip: str, run: str, top: int, as_json: bool) -> None:
    """Clips of DATASET that move like CLIP, by their flow histograms. Needs no gradients.

    \b
    motive motion like my-clips clips/0001.mp4
    """
    import motive_fo

    alike = list(motive_fo.similar_motion(dataset, clip, run).items())[:top]
    emit(dict(alike), [f"{value:.3f}  {clip_id}" for clip_id, value in alike], as_json)
