"""Commands over runs: list, show, replay, adopt, delete."""

from __future__ import annotations

import click

from .completion import dataset_names, run_names
from .output import Output, output_options

_dataset = click.argument("dataset", shell_complete=dataset_names)
_run = click.argument("run", default="motive", shell_complete=run_names)


@click.group("runs")
def runs_group() -> None:
    """List, show, repeat and delete the runs of a dataset; adopt a store."""


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
    out.emit([r.as_dict() for r in records], lines or [f"dataset {dataset!r} has no runs"])


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
    from motive_fo.dataset.ownership import notice
    from motive_fo.dataset.run_record import load_run
    from motive_fo.dataset.trace import trace

    record = load_run(load_dataset(dataset), run)
    traced = {each.step: each for each in trace(record)}
    lines = [f"{record.run} (motive-fo {record.version}), begun {record.created}, updated {record.updated}"]
    lines += [f"store: {record.store}"]
    if foreign := notice(record):
        lines.append(foreign)
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
    out.emit(record.as_dict(), lines)


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


@runs_group.command("adopt")
@_dataset
@click.argument("store", type=click.Path())
@click.option("--run", help="the run that is to own it; the one the store was made for where open")
@click.option("--take", is_flag=True, help="from a run that may still use it, and then no longer can")
@output_options(progress=False)
def adopt_command(dataset: str, store: str, run: str | None, take: bool, out: Output) -> None:
    """Make STORE a run's own in DATASET: that of a clone, an import, a restored backup, or a run that was deleted.

    Only the run that owns a store may write to it and delete it. Clips and their files are compared first, and nothing
    is computed. To leave the original its store, copy the folder and adopt the copy.

    \b
    motive runs adopt my-clone /data/my-clips/motive.zarr
    cp -r /data/my-clips/motive.zarr /data/copy.zarr && motive runs adopt my-clone /data/copy.zarr
    """
    import motive_fo

    done = motive_fo.adopt_store(dataset, store, run, take=take)
    former = f", which was that of {done.former}" if done.former else ""
    lines = [
        f"run {done.run!r} of {dataset!r} owns {done.store}{former}",
        f"{done.clips} clips of the dataset are in it",
    ]
    if done.changed:
        lines.append(
            f"{len(done.changed)} of them have another file now ({done.changed[0]}): the next step computes them"
        )
    out.emit(done.as_dict(), lines)


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
    from motive_fo.dataset.ownership import held_by
    from motive_fo.dataset.run_record import load_run

    record = load_run(load_dataset(dataset), run)
    if not yes:
        store = "" if keep_store or held_by(record) != "own" else f" and {record.store}"
        click.confirm(f"delete {len(record.views)} views, the field group {run!r}{store}?", abort=True, err=True)
    done = motive_fo.delete_run(dataset, run, keep_store=keep_store)
    lines = [f"deleted run {run!r} of {dataset!r}", *([done.kept] if done.kept else [])]
    lines += [f"left in place: {folder}" for folder in done.exports]
    out.emit({"deleted": run, "exports": done.exports, "kept": done.kept}, lines)
