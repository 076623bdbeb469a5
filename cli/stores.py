"""Commands over the stores of runs: what is in one, whether it is sound, several joined into one."""

from __future__ import annotations

import click

from .output import Output, output_options


@click.group("store")
def store_group() -> None:
    """Look into a run's store, check it, join the stores of a job array."""


@store_group.command("info")
@click.argument("store", type=click.Path())
@output_options(progress=False)
def info_command(store: str, out: Output) -> None:
    """What STORE, a folder or URL, holds: clips by status, settings' fingerprints, disk.

    \b
    motive store info run.zarr
    """
    from motive_fo.store.inspection import store_info

    info = store_info(store)
    lines = [f"{info.store}: " + (f"shard {info.shard}" if info.shard else "a whole run")]
    for name, counts in info.tables.items():
        states = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no clips"
        lines.append(f"{name}: {states}; settings {info.fingerprints[name]}")
    if info.scoring:
        lines.append(f"influence: {info.scoring[0]} queries, {info.scoring[1]} training clips")
    lines.append("disk: " + ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in info.bytes.items()))
    out.emit(info.as_dict(), lines)


@store_group.command("verify")
@click.argument("store", type=click.Path())
@click.option("--repair", is_flag=True, help="mark damaged rows as not computed, for the next run of the step")
@output_options(progress=False)
@click.pass_context
def verify_command(ctx: click.Context, store: str, repair: bool, out: Output) -> None:
    """Read all of STORE, a folder or URL, and say what is wrong: lost files, checksums, empty or repeated rows.

    The exit code is 1 where something is, also where it was repaired: the rows are still to be computed.

    \b
    motive store verify run.zarr
    motive store verify run.zarr --repair
    """
    from motive_fo.store.inspection import verify_store

    check = verify_store(store, repair=repair)
    verdict = f"{len(check.problems)} problems" if check.problems else "sound"
    lines = [*check.problems, *(f"note: {note}" for note in check.notes)]
    lines += [f"{name}: {count} rows marked as not computed" for name, count in check.repaired.items()]
    lines.append(f"{check.rows} rows read: {verdict}")
    out.emit(check.as_dict(), lines)
    ctx.exit(1 if check.problems else 0)


@store_group.command("merge")
@click.argument("target", type=click.Path())
@click.argument("stores", type=click.Path(), nargs=-1, required=True)
@click.option("--partial", is_flag=True, help="merge what there is, although shards or clips are missing")
@output_options(progress=False)
def merge_command(target: str, stores: tuple[str, ...], partial: bool, out: Output) -> None:
    """Join STORES, computed with the same settings, into TARGET; each is a folder or a URL.

    Afterwards the step without --shard finds everything computed, and writes fields and views.

    \b
    motive store merge run.zarr run.shard-*-of-8.zarr
    """
    from motive_fo.store.merge import merge_stores

    report = merge_stores(target, stores, partial=partial)
    lines = [
        f"{name}: {count} rows added, {report.present[name]} were there already" for name, count in report.added.items()
    ]
    lines += [f"took up rows of {run}, which is another one" for run in report.taken_up]
    out.emit(report.as_dict(), [*lines, f"{report.store}: {len(report.merged)} stores merged"])
