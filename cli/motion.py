"""``motive motion``: compute it, read about it on a page, look at one clip of it."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from motive_fo.config import AttributionConfig, ClipConfig, EngineConfig, FlowConfig, MotionConfig, Preset

from .completion import dataset_names
from .options import changes, preset_option, settings_options
from .output import Output, estimate_lines, failure_lines, output_options, step_lines, timing_lines
from .steps import dataset_argument, dry_run_option, retry_option, run_option, shard_option, store_option


class _ComputesByDefault(click.Group):
    """``motive motion DATASET`` computes; ``page`` and ``show`` are asked for by name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        completing = ctx.resilient_parsing and not args
        if not completing and (not args or args[0] not in self.commands):
            args = ["compute", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        compute = self.commands["compute"]
        own = compute.shell_complete(click.Context(compute, ctx), incomplete)
        names = [] if incomplete.startswith("-") else dataset_names(ctx, compute.params[0], incomplete)
        return [*super().shell_complete(ctx, incomplete), *own, *map(CompletionItem, names)]


@click.group("motion", cls=_ComputesByDefault)
def motion_group() -> None:
    """Motion of every clip: statistics, curve, mask. No gradients."""


@motion_group.command("compute")
@dataset_argument
@run_option
@click.option("--view", help="tag or saved view to compute [default: all clips]")
@preset_option
@settings_options(ClipConfig, FlowConfig, MotionConfig)
@settings_options(AttributionConfig, only=("model",))
@settings_options(EngineConfig)
@store_option
@shard_option
@retry_option
@dry_run_option
@output_options(details=True)
def compute_command(
    dataset: str,
    run: str,
    view: str | None,
    preset: Preset | None,
    store: str | None,
    shard: str | None,
    retry_failed: bool,
    dry_run: bool,
    out: Output,
    **given: Any,
) -> None:
    """Motion of every clip: statistics, curve, mask. No gradients. The word "compute" can be left out.

    \b
    motive motion my-clips
    motive motion my-clips --dry-run
    motive motion my-clips --fps 16 --frames 33 --run longer
    motive motion page my-clips motion.html                a page to read
    motive motion show my-clips clips/0001.mp4 pictures/   one clip, frame by frame
    motive motion like my-clips clips/0001.mp4             clips that move like it
    """
    if shard and dry_run:
        raise click.UsageError("a dry run is of the whole run: leave --shard out")
    import motive_fo
    from motive_fo.dataset.choose import choose_train
    from motive_fo.dataset.connect import load_dataset

    samples = load_dataset(dataset)
    chosen = samples if view is None else choose_train(samples, view)
    asked: dict[str, Any] = {
        "clip": changes(ClipConfig, given),
        "flow": changes(FlowConfig, given),
        "motion": changes(MotionConfig, given),
        "store": store,
        "preset": preset,
        "retry_failed": retry_failed,
    }
    model = given["model"]
    with out.progress() as progress:
        if dry_run:
            attribution = {"model": model} if model else None
            estimate = motive_fo.estimate(
                chosen, run, step="motion", attribution=attribution, progress=progress, **asked
            )
        else:
            engine = changes(EngineConfig, given)
            report = motive_fo.compute_motion(
                chosen, run, model=model, engine=engine, shard=shard, progress=progress, **asked
            )
    if dry_run:
        out.emit(estimate.as_dict(), estimate_lines(estimate, verbose=out.verbose))
        return
    out.emit(report.as_dict(), step_lines(report))
    if out.verbose:
        out.detail([*failure_lines(dataset, run), *timing_lines([report])])


@motion_group.command("page")
@dataset_argument
@click.argument("file", type=click.Path())
@run_option
@click.option("--shown", default=6, show_default=True, type=click.IntRange(0, 100), help="clips shown of each kind")
@output_options()
def page_command(dataset: str, file: str, run: str, shown: int, out: Output) -> None:
    """Write FILE, one HTML page on the motion of DATASET: distributions, filmstrips, flow, masks.

    \b
    motive motion page my-clips motion.html
    """
    from motive_fo.dataset.motion_report import write_motion_page

    with out.progress() as progress:
        path = write_motion_page(dataset, file, run, shown=shown, progress=progress)
    out.emit({"page": str(path)}, [f"page: {path}"])


@motion_group.command("show")
@dataset_argument
@click.argument("clip")
@click.argument("folder", type=click.Path())
@run_option
@output_options(progress=False)
def show_command(dataset: str, clip: str, folder: str, run: str, out: Output) -> None:
    """Write pictures and videos of one CLIP's motion into FOLDER: frames, flow, magnitude, mask.

    \b
    motive motion show my-clips clips/0001.mp4 pictures/
    """
    from motive_fo.dataset.motion_report import show_motion

    files = [str(path) for path in show_motion(dataset, clip, folder, run)]
    out.emit({"files": files}, files)


@motion_group.command("like")
@dataset_argument
@click.argument("clip")
@run_option
@click.option("--top", default=10, show_default=True, type=click.IntRange(1), help="clips to list")
@output_options(progress=False)
def like_command(dataset: str, clip: str, run: str, top: int, out: Output) -> None:
    """Clips of DATASET that move like CLIP, by their flow histograms. Needs no gradients.

    \b
    motive motion like my-clips clips/0001.mp4
    """
    import motive_fo

    alike = list(motive_fo.similar_motion(dataset, clip, run).items())[:top]
    out.emit(dict(alike), [f"{value:.3f}  {clip_id}" for clip_id, value in alike])
