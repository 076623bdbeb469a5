"""Commands of the pipeline: import, motion, gradients, influence, curate, export, run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from motive_fo.config import (
    AttributionConfig,
    ClipConfig,
    ExportConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
    SelectionConfig,
)

from .options import changes, settings_options
from .output import curate_lines, emit, export_lines, import_lines, run_lines, shown_progress, step_lines

if TYPE_CHECKING:
    from motive_fo.dataset.listing import MissingCaption

dataset_argument = click.argument("dataset")
run_option = click.option("--run", default="motive", show_default=True, help="name of the run")
store_option = click.option(
    "--store", type=click.Path(), help="folder of the run's store [default: the data folder of motive]"
)
retry_option = click.option("--retry-failed", is_flag=True, help="compute clips again that failed before")
json_option = click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
quiet_option = click.option("--quiet", is_flag=True, help="no progress")
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
@json_option
@quiet_option
def import_command(
    source: str,
    dataset: str,
    role: str,
    name: str | None,
    missing_caption: MissingCaption,
    windows: float | None,
    allow_outside: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Import clips from SOURCE into DATASET: a folder, a .csv/.json/.jsonl listing, or dataset:NAME.

    \b
    motive import clips/ my-clips
    motive import captions.jsonl my-clips --role query
    motive import dataset:holiday my-clips --missing-caption skip
    """
    import motive_fo

    with shown_progress(quiet) as progress:
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
    emit(report.as_dict(), import_lines(report.as_dict()), as_json)


@click.command("gradients")
@dataset_argument
@run_option
@_train
@_query
@settings_options(AttributionConfig, ClipConfig, FlowConfig, MotionConfig)
@store_option
@retry_option
@json_option
@quiet_option
def gradients_command(
    dataset: str,
    run: str,
    train: str | None,
    query: str | None,
    store: str | None,
    retry_failed: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Gradient sketches of training and query clips; motion where it is missing.

    Stopped at any point, the same command goes on where it was.

    \b
    motive gradients my-clips
    motive gradients my-clips --query other-dataset --device cuda:1
    """
    import motive_fo

    with shown_progress(quiet) as progress:
        reports = motive_fo.compute_gradients(
            dataset,
            run,
            train=train,
            query=query,
            clip=changes(ClipConfig, given),
            flow=changes(FlowConfig, given),
            motion=changes(MotionConfig, given),
            attribution=changes(AttributionConfig, given),
            store=store,
            retry_failed=retry_failed,
            progress=progress,
        )
    lines = [line for report in reports.values() for line in step_lines(report)]
    emit({role: report.as_dict() for role, report in reports.items()}, lines, as_json)


@click.command("influence")
@dataset_argument
@run_option
@_train
@_query
@settings_options(InfluenceConfig)
@json_option
@quiet_option
def influence_command(
    dataset: str, run: str, train: str | None, query: str | None, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Influence of every training clip on the queries, from the stored sketches.

    \b
    motive influence my-clips
    motive influence my-clips --mask-side query
    """
    import motive_fo

    with shown_progress(quiet) as progress:
        report = motive_fo.score_influence(
            dataset, run, train=train, query=query, influence=changes(InfluenceConfig, given), progress=progress
        )
    emit(report.as_dict(), step_lines(report), as_json)


@click.command("curate")
@dataset_argument
@run_option
@settings_options(SelectionConfig)
@json_option
@quiet_option
def curate_command(dataset: str, run: str, as_json: bool, quiet: bool, **given: Any) -> None:
    """Votes, ranks, and saved views of the clips to train on.

    \b
    motive curate my-clips --budget 0.1
    motive curate my-clips --by rank
    """
    import motive_fo

    report = motive_fo.curate(dataset, run, selection=changes(SelectionConfig, given))
    lines = [f"curate: {len(report.selected)} of {report.clips} scored clips selected", *curate_lines(report.views)]
    emit(report.as_dict(), lines, as_json)


@click.command("export")
@dataset_argument
@click.argument("folder", type=click.Path())
@run_option
@click.option("--view", help="saved view or tag to export [default: the run's selection]")
@settings_options(ExportConfig)
@json_option
@quiet_option
def export_command(
    dataset: str, folder: str, run: str, view: str | None, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Write the selection into FOLDER as a trainer reads it.

    \b
    motive export my-clips selected/
    motive export my-clips selected/ --view "motive: majority vote" --media copy
    """
    import motive_fo
    from motive_fo.dataset.choose import choose_train
    from motive_fo.dataset.connect import load_dataset

    samples = load_dataset(dataset)
    with shown_progress(quiet) as progress:
        report = motive_fo.export(
            samples if view is None else choose_train(samples, view),
            folder,
            run,
            config=changes(ExportConfig, given),
            progress=progress,
        )
    emit(report.as_dict(), export_lines(report.as_dict()), as_json)


@click.command("run")
@click.argument("config", type=click.Path())
@retry_option
@json_option
@quiet_option
def run_command(config: str, retry_failed: bool, as_json: bool, quiet: bool) -> None:
    """Do everything a YAML file asks for, from import to export. The same command goes on after an interruption.

    \b
    dataset: my-clips
    videos: clips/
    queries: wanted/
    selection: {budget: 0.1}
    export_to: selected/
    """
    import motive_fo

    with shown_progress(quiet) as progress:
        report = motive_fo.run(config, retry_failed=retry_failed, progress=progress)
    emit(report.as_dict(), run_lines(report), as_json)
