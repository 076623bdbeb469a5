"""Commands of the pipeline: import, motion, gradients, influence, run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from motive_fo.config import (
    AttributionConfig,
    ClipConfig,
    EngineConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
    Preset,
)

from .completion import dataset_names, run_names
from .options import changes, preset_option, settings_options
from .output import (
    Output,
    estimate_lines,
    failure_lines,
    import_lines,
    output_options,
    run_lines,
    step_lines,
    timing_lines,
)

if TYPE_CHECKING:
    from motive_fo.dataset.listing import MissingCaption

dataset_argument = click.argument("dataset", shell_complete=dataset_names)
run_option = click.option(
    "--run", default="motive", show_default=True, shell_complete=run_names, help="name of the run"
)
store_option = click.option(
    "--store", type=click.Path(), help="folder or URL of the run's store [default: the data folder of motive]"
)
retry_option = click.option("--retry-failed", is_flag=True, help="compute clips again that failed before")
shard_option = click.option(
    "--shard",
    metavar="I/N",
    help="compute the Ith of N parts into a store of its own, no fields; motive store merge joins them",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="write nothing; say what is to do, and measure a few clips for time and disk"
)
_train = click.option("--train", help="tag or saved view of the training clips [default: tag train]")
_query = click.option("--query", help="tag, saved view or dataset of the query clips [default: tag query]")


@click.command("import")
@click.argument("source", type=click.Path())
@dataset_argument
@click.option("--role", default="train", show_default=True, help="tag of the clips: train, query, or any of yours")
@click.option("--name", help="first part of the clips' ids [default: the folder's name]")
@click.option(
    "--missing-caption",
    type=click.Choice(["empty", "skip", "refuse"]),
    default="empty",
    show_default=True,
    help="what happens to clips without a caption",
)
@click.option("--windows", type=float, help="cut long videos into clips of so many seconds")
@click.option("--allow-outside", is_flag=True, help="take rows whose path leads out of the listing's folder")
@output_options(details=True)
def import_command(
    source: str,
    dataset: str,
    role: str,
    name: str | None,
    missing_caption: MissingCaption,
    windows: float | None,
    allow_outside: bool,
    out: Output,
) -> None:
    """Import clips from SOURCE into DATASET: a folder, a .csv/.json/.jsonl listing, or dataset:NAME.

    \b
    motive import clips/ my-clips
    motive import captions.jsonl my-clips --role query
    motive import dataset:holiday my-clips --missing-caption skip
    """
    import motive_fo

    with out.progress() as progress:
        report = motive_fo.import_clips(
            source,
            dataset,
            role=role,
            name=name,
            missing_caption=missing_caption,
            windows=windows,
            allow_outside=allow_outside,
            progress=progress,
        )
    out.emit(report.as_dict(), import_lines(report.as_dict()))
    out.detail([f"not taken: {clip_id}: {caption}" for clip_id, caption in report.conflicts.items()])
    out.detail([f"skipped: {skipped}" for skipped in report.skipped])


@click.command("gradients")
@dataset_argument
@run_option
@_train
@_query
@preset_option
@settings_options(AttributionConfig, ClipConfig, FlowConfig, MotionConfig, EngineConfig)
@store_option
@shard_option
@retry_option
@dry_run_option
@output_options(details=True)
def gradients_command(
    dataset: str,
    run: str,
    train: str | None,
    query: str | None,
    preset: Preset | None,
    store: str | None,
    shard: str | None,
    retry_failed: bool,
    dry_run: bool,
    out: Output,
    **given: Any,
) -> None:
    """Gradient sketches of training and query clips; motion where it is missing.

    Stopped at any point, the same command goes on where it was.

    \b
    motive gradients my-clips
    motive gradients my-clips --dry-run
    motive gradients my-clips --query other-dataset --device cuda:1
    motive gradients my-clips --devices 0,1,2,3
    motive gradients my-clips --engine ray --address auto
    motive gradients my-clips --shard 2/8
    """
    if shard and dry_run:
        raise click.UsageError("a dry run is of the whole run: leave --shard out")
    import motive_fo

    asked: dict[str, Any] = {
        "train": train,
        "query": query,
        "clip": changes(ClipConfig, given),
        "flow": changes(FlowConfig, given),
        "motion": changes(MotionConfig, given),
        "attribution": changes(AttributionConfig, given),
        "store": store,
        "preset": preset,
        "retry_failed": retry_failed,
    }
    with out.progress() as progress:
        if dry_run:
            estimate = motive_fo.estimate(dataset, run, progress=progress, **asked)
        else:
            engine = changes(EngineConfig, given)
            reports = motive_fo.compute_gradients(dataset, run, engine=engine, shard=shard, progress=progress, **asked)
    if dry_run:
        out.emit(estimate.as_dict(), estimate_lines(estimate, verbose=out.verbose))
        return
    lines = [line for report in reports.values() for line in step_lines(report)]
    out.emit({role: report.as_dict() for role, report in reports.items()}, lines)
    if out.verbose:
        out.detail([*failure_lines(dataset, run), *timing_lines(list(reports.values()))])


@click.command("influence")
@dataset_argument
@run_option
@_train
@_query
@preset_option
@settings_options(InfluenceConfig)
@output_options(details=True)
def influence_command(
    dataset: str, run: str, train: str | None, query: str | None, preset: Preset | None, out: Output, **given: Any
) -> None:
    """Influence of every training clip on the queries, from the stored sketches.

    \b
    motive influence my-clips
    motive influence my-clips --mask-side query
    """
    import motive_fo

    with out.progress() as progress:
        report = motive_fo.score_influence(
            dataset,
            run,
            train=train,
            query=query,
            influence=changes(InfluenceConfig, given),
            preset=preset,
            progress=progress,
        )
    out.emit(report.as_dict(), step_lines(report))
    if out.verbose:
        out.detail([*failure_lines(dataset, run), *timing_lines([report])])


@click.command("run")
@click.argument("config", type=click.Path(), required=False)
@click.option("--init", is_flag=True, help="write CONFIG [motive.yaml], a template with every setting explained")
@retry_option
@dry_run_option
@output_options(details=True)
def run_command(config: str | None, init: bool, retry_failed: bool, dry_run: bool, out: Output) -> None:
    """Do everything a YAML file asks for, from import to export. The same command goes on after an interruption.

    \b
    motive run --init motive.yaml      write a template, then fill in four lines
    motive run motive.yaml --dry-run   what is to do, and what it will cost
    motive run motive.yaml
    """
    if init:
        from motive_fo.config_template import write_template

        path = write_template(config or "motive.yaml")
        out.emit({"template": str(path)}, [f"{path}: fill in the first lines, then: motive run {path} --dry-run"])
        return
    if config is None:
        raise click.UsageError("name a CONFIG file, or have one written: motive run --init motive.yaml")
    import motive_fo
    from motive_fo.config import load

    asked = load(config)
    with out.progress() as progress:
        if dry_run:
            estimate = motive_fo.estimate(asked, retry_failed=retry_failed, progress=progress)
        else:
            report = motive_fo.run(asked, retry_failed=retry_failed, progress=progress)
    if dry_run:
        out.emit(estimate.as_dict(), estimate_lines(estimate, verbose=out.verbose))
        return
    out.emit(report.as_dict(), run_lines(report))
    if out.verbose:
        reports = [*report.gradients.values(), *([report.influence] if report.influence else [])]
        out.detail([*failure_lines(asked.dataset, asked.run), *timing_lines(reports)])
