"""``motive export``, ``motive survival`` and ``motive baselines``: what is trained on, and what trainers make of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from motive_fo.config import ExportConfig

from .options import changes, listed, settings_options
from .output import Output, baseline_lines, export_lines, output_options, survival_lines
from .steps import dataset_argument, run_option

_view_option = click.option("--view", help="saved view or tag to export [default: the run's selection]")
#: how a trainer takes clips, whichever it is
_taken = tuple(
    item.name for item in fields(ExportConfig) if item.name not in ("layout", "overwrite", "strict", "steps")
)
_exported = tuple(item.name for item in fields(ExportConfig) if item.name != "steps")


@click.command("export")
@dataset_argument
@click.argument("folder", type=click.Path())
@run_option
@_view_option
@settings_options(ExportConfig)
@click.option("--dry-run", is_flag=True, help="write nothing; say what the trainer would make of the clips")
@output_options(details=True)
def export_command(
    dataset: str, folder: str, run: str, view: str | None, dry_run: bool, out: Output, **given: Any
) -> None:
    """Write the selection into FOLDER as a trainer reads it, and say what the trainer will make of it.

    The same command again changes nothing. With --overwrite an earlier export is renewed; what is the same stays.

    \b
    motive export my-clips selected/
    motive export my-clips selected/ --layout musubi --media reencode
    motive export my-clips selected/ --layout diffusion-pipe --dry-run
    motive export my-clips selected/ --view "motive: majority vote" --media copy
    """
    import motive_fo

    samples = _samples(dataset, view)
    config = changes(ExportConfig, given)
    layout = config.get("layout", ExportConfig().layout)
    with out.progress() as progress:
        if dry_run:
            (found,) = motive_fo.survival(samples, run, config=config, layouts=(layout,), progress=progress)
        else:
            report = motive_fo.export(samples, folder, run, config=config, progress=progress)
    if dry_run:
        out.emit(found.as_dict(), ["dry run of export: nothing is written", *survival_lines([found])])
        out.detail(_changed(found.as_dict()))
        return
    out.emit(report.as_dict(), export_lines(report.as_dict()))
    out.detail(_changed(report.survival.as_dict()))
    out.detail([f"caption changed: {clip_id} ({how})" for clip_id, how in report.changed_captions.items()])


@click.command("survival")
@dataset_argument
@run_option
@_view_option
@settings_options(ExportConfig, only=_taken)
@output_options(details=True)
def survival_command(dataset: str, run: str, view: str | None, out: Output, **given: Any) -> None:
    """What every trainer would make of the selection: clips kept, cut, at another speed, dropped. Nothing is written.

    \b
    motive survival my-clips
    motive survival my-clips --media reencode
    motive survival my-clips --view "motive: majority vote" --frames 33 --verbose
    """
    import motive_fo

    with out.progress() as progress:
        reports = motive_fo.survival(
            _samples(dataset, view), run, config=changes(ExportConfig, given), progress=progress
        )
    out.emit([report.as_dict() for report in reports], survival_lines(reports))
    for report in reports:
        out.detail([f"{report.layout}: {line}" for line in _changed(report.as_dict())])


@click.command("baselines")
@dataset_argument
@run_option
@click.option(
    "--kinds",
    callback=listed(str),
    metavar="TEXT[,TEXT...]",
    help="of random, motion, hoof, full [default: random,motion,hoof,full]",
)
@click.option("--seeds", callback=listed(int), metavar="N[,N...]", help="seeds of random [default: 0]")
@click.option(
    "--embeddings",
    callback=listed(str),
    metavar="TEXT[,TEXT...]",
    help="more baselines: embedding fields, brain keys or zoo models",
)
@click.option(
    "--export", "folder", type=click.Path(), help="also export the selection and each baseline below a folder"
)
@settings_options(ExportConfig, only=_exported)
@click.option("--steps", type=click.IntRange(1), help="training steps of each export [default: one pass over full]")
@output_options()
def baselines_command(
    dataset: str,
    run: str,
    kinds: tuple[str, ...] | None,
    seeds: tuple[int, ...] | None,
    embeddings: tuple[str, ...] | None,
    folder: str | None,
    out: Output,
    **given: Any,
) -> None:
    """Selections of the same size to compare yours with, as saved views, and exports with equal training steps.

    shared: of your selection. coverage: mean share of a query's own best clips.

    \b
    motive baselines my-clips
    motive baselines my-clips --kinds random --seeds 0,1,2
    motive baselines my-clips --export trainings/ --layout finetrainers --media reencode
    """
    import motive_fo
    from motive_fo.dataset.baselines import KINDS

    with out.progress() as progress:
        report = motive_fo.baselines(
            dataset,
            run,
            kinds=KINDS if kinds is None else kinds,
            seeds=(0,) if seeds is None else seeds,
            embeddings=embeddings or (),
            folder=folder,
            config=changes(ExportConfig, given),
            progress=progress,
        )
    out.emit(report.as_dict(), baseline_lines(report))


def _samples(dataset: str, view: str | None) -> Any:
    from motive_fo.dataset.choose import choose_train
    from motive_fo.dataset.connect import load_dataset

    samples = load_dataset(dataset)
    return samples if view is None else choose_train(samples, view)


def _changed(survival: dict[str, Any]) -> list[str]:
    """Every clip that is not trained on as it was scored."""
    lines = []
    for clip_id, fate in survival["changed"].items():
        if not fate["frames"]:
            lines.append(f"dropped: {clip_id} ({fate['why']})")
            continue
        why = f", {fate['why']}" if fate["why"] else ""
        lines.append(f"changed: {clip_id} ({fate['frames']} frames, speed {fate['speed']:.2f}{why})")
    return lines
