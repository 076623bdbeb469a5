"""Commands over runs: list, show, replay, delete."""

from __future__ import annotations

from dataclasses import asdict

import click

from .completion import dataset_names, run_names
from .output import Output, output_options

_dataset = click.argument("dataset", shell_complete=dataset_names)
_run = click.argument("run", default="motive", shell_complete=run_names)


@click.group("runs")
def runs_group() -> None:
    """List, show, repeat and delete the runs of a dataset."""


@runs_group.command("list")
@_dataset
@output_options(progress=False)
def list_command(dataset: str, out: Output) -> None:
    """The runs of DATASET.

    \b
    motive runs list my-clips
    """
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.run_record import list_runs, load_run

    target = load_dataset(dataset)
    records = [load_run(target, name) for name in list_runs(target)]
    lines = [f"{r.run}: {', '.join(r.steps) or 'nothing computed'}; updated {r.updated}" for r in records]
    out.emit([asdict(r) for r in records], lines or [f"dataset {dataset!r} has no runs"])


@runs_group.command("show")
@_dataset
@_run
@output_options(progress=False)
def show_command(dataset: str, run: str, out: Output) -> None:
    """Settings, steps with the fingerprints of what they came from, and everything RUN wrote.

    \b
    motive runs show my-clips
    motive runs show my-clips motive --json
    """
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.run_record import load_run
    from motive_fo.dataset.trace import trace

    record = load_run(load_dataset(dataset), run)
    traced = {each.step: each for each in trace(record)}
    lines = [f"{record.run} (motive-fo {record.version}), begun {record.created}, updated {record.updated}"]
    lines += [f"store: {record.store}"]
    for section, values in record.settings.items():
        lines.append(f"{section}: " + ", ".join(f"{key} {value}" for key, value in values.items() if value is not None))
    for step, report in record.steps.items():
        lines.append(f"step {step}: {report.get('clips', 0)} clips, {report.get('codes') or 'no failures'}")
        lines += [f"  {finding}" for finding in report.get("findings", [])]
        lines += [f"  {line}" for line in (traced[step].lines() if step in traced else [])]
    for step in [step for step in traced if step not in record.steps]:  # motion that was measured with the gradients
        lines += [f"step {step}: on the way to the gradients", *(f"  {line}" for line in traced[step].lines())]
    lines += [f"saved view: {view}" for view in record.views]
    lines += [f"export: {folder}" for folder in record.exports]
    out.emit(asdict(record), lines)


@runs_group.command("replay")
@_dataset
@_run
@click.option("--sample", type=click.IntRange(1), help="only so many training clips, drawn at random")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="seed of that draw")
@click.option(
    "--tolerance",
    default=1e-3,
    show_default=True,
    type=click.FloatRange(0),
    help="relative difference up to which a row is the same",
)
@click.option("--device", help="where gradients are computed; the run's own where open")
@click.option("--keep", type=click.Path(), metavar="FOLDER", help="keep the second store and the report there")
@output_options()
@click.pass_context
def replay_command(
    ctx: click.Context,
    dataset: str,
    run: str,
    sample: int | None,
    seed: int,
    tolerance: float,
    device: str | None,
    keep: str | None,
    out: Output,
) -> None:
    """Compute RUN again from its record, compare every row, cosine and the selection, and say why what differs does.

    Nothing of the run is changed. The exit code is 1 where it does not come out again.

    \b
    motive runs replay my-clips
    motive runs replay my-clips motive --sample 200 --keep again/
    """
    import motive_fo

    with out.progress() as progress:
        report = motive_fo.replay_run(
            dataset,
            run,
            sample=sample,
            seed=seed,
            tolerance=tolerance,
            device=device,
            keep=keep,
            progress=progress,
        )
    out.emit(report.as_dict(), report.lines())
    ctx.exit(1 if report.verdict == "differs" else 0)


@runs_group.command("delete")
@_dataset
@_run
@click.option("--keep-store", is_flag=True, help="keep the sketches, so that the run can be made again at once")
@click.option("--yes", is_flag=True, help="do not ask")
@output_options(progress=False)
def delete_command(dataset: str, run: str, keep_store: bool, yes: bool, out: Output) -> None:
    """Remove the fields, views, store and record of RUN. Exported folders stay.

    \b
    motive runs delete my-clips
    motive runs delete my-clips motive --yes --keep-store
    """
    import motive_fo
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.run_record import load_run

    record = load_run(load_dataset(dataset), run)
    if not yes:
        what = f"{len(record.views)} views, the field group {run!r}" + ("" if keep_store else f" and {record.store}")
        click.confirm(f"delete {what}?", abort=True, err=True)
    record = motive_fo.delete_run(dataset, run, keep_store=keep_store)
    lines = [f"deleted run {run!r} of {dataset!r}", *(f"left in place: {folder}" for folder in record.exports)]
    out.emit({"deleted": run, "exports": record.exports}, lines)
