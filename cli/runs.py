"""Commands over runs: list, show, delete."""

from __future__ import annotations

from dataclasses import asdict

import click

from .output import emit

_json = click.option("--json", "as_json", is_flag=True, help="print the result as JSON")


@click.group("runs")
def runs_group() -> None:
    """List, show and delete the runs of a dataset."""


@runs_group.command("list")
@click.argument("dataset")
@_json
def list_command(dataset: str, as_json: bool) -> None:
    """The runs of DATASET."""
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.run_record import list_runs, load_run

    target = load_dataset(dataset)
    records = [load_run(target, name) for name in list_runs(target)]
    lines = [f"{r.run}: {', '.join(r.steps) or 'nothing computed'}; updated {r.updated}" for r in records]
    emit([asdict(r) for r in records], lines or [f"dataset {dataset!r} has no runs"], as_json)


@runs_group.command("show")
@click.argument("dataset")
@click.argument("run", default="motive")
@_json
def show_command(dataset: str, run: str, as_json: bool) -> None:
    """Settings, steps and everything RUN wrote."""
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.run_record import load_run

    record = load_run(load_dataset(dataset), run)
    lines = [f"{record.run} (motive-fo {record.version}), begun {record.created}, updated {record.updated}"]
    lines += [f"store: {record.store}"]
    for section, values in record.settings.items():
        lines.append(f"{section}: " + ", ".join(f"{key} {value}" for key, value in values.items() if value is not None))
    for step, report in record.steps.items():
        lines.append(f"step {step}: {report.get('clips', 0)} clips, {report.get('codes') or 'no failures'}")
    lines += [f"saved view: {view}" for view in record.views]
    lines += [f"export: {folder}" for folder in record.exports]
    emit(asdict(record), lines, as_json)


@runs_group.command("delete")
@click.argument("dataset")
@click.argument("run", default="motive")
@click.option("--keep-store", is_flag=True, help="keep the sketches, so that the run can be made again at once")
@click.option("--yes", is_flag=True, help="do not ask")
@_json
def delete_command(dataset: str, run: str, keep_store: bool, yes: bool, as_json: bool) -> None:
    """Remove the fields, views, store and record of RUN. Exported folders stay."""
    import motive_fo
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.run_record import load_run

    record = load_run(load_dataset(dataset), run)
    if not yes:
        what = f"{len(record.views)} views, the field group {run!r}" + ("" if keep_store else f" and {record.store}")
        click.confirm(f"delete {what}?", abort=True, err=True)
    record = motive_fo.delete_run(dataset, run, keep_store=keep_store)
    lines = [f"deleted run {run!r} of {dataset!r}", *(f"left in place: {folder}" for folder in record.exports)]
    emit({"deleted": run, "exports": record.exports}, lines, as_json)
