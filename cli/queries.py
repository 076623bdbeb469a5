"""``motive queries``: which clips show the motion that is wanted, or not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .output import Output, output_options
from .steps import dataset_argument

if TYPE_CHECKING:
    from motive_fo.dataset.queries import Query


@click.group("queries")
def queries_group() -> None:
    """Queries: clips that show the motion that is wanted, or not wanted.

    \b
    motive queries template wanted/                 prompts of ten motions
    motive queries generate wanted/                 let the model make clips of them
    motive queries add my-clips wanted/             import them, grouped by motion
    motive queries add my-clips bad/ --avoid        clips of what is not wanted
    motive curate my-clips --queries spin           select for one group
    """


@queries_group.command("list")
@dataset_argument
@output_options(progress=False)
def list_command(dataset: str, out: Output) -> None:
    """The queries of DATASET, by group.

    \b
    motive queries list my-clips
    """
    import motive_fo

    _emit(out, motive_fo.list_queries(dataset), f"dataset {dataset!r} has no queries: motive queries add")


@queries_group.command("add")
@dataset_argument
@click.argument("source")
@click.option("--group", help="group they belong to [default: the subfolder they lie in]")
@click.option("--avoid", is_flag=True, help="they show what is not wanted, such as bad generations")
@click.option("--name", help="first part of the clips' ids [default: the folder's name]")
@output_options()
def add_command(dataset: str, source: str, group: str | None, avoid: bool, name: str | None, out: Output) -> None:
    """Take SOURCE as queries of DATASET: a folder or listing to import, or a tag or saved view of the dataset.

    \b
    motive queries add my-clips wanted/
    motive queries add my-clips bad/ --avoid --group melting
    motive queries add my-clips tag:favourites
    """
    import motive_fo

    with out.progress() as progress:
        added = motive_fo.add_queries(dataset, source, group=group, avoid=avoid, name=name, progress=progress)
    _emit(out, added, "nothing to add")


@queries_group.command("remove")
@dataset_argument
@click.argument("names", nargs=-1, required=True)
@output_options(progress=False)
def remove_command(dataset: str, names: Sequence[str], out: Output) -> None:
    """Queries of DATASET, or whole groups, are queries no longer. The clips stay.

    \b
    motive queries remove my-clips wanted/spin/1.mp4
    motive queries remove my-clips group:spin
    """
    import motive_fo

    _emit(out, motive_fo.remove_queries(dataset, names), "nothing removed")


@queries_group.command("group")
@dataset_argument
@click.argument("group")
@click.argument("names", nargs=-1, required=True)
@output_options(progress=False)
def group_command(dataset: str, group: str, names: Sequence[str], out: Output) -> None:
    """Put queries of DATASET, by id or by the group they are in, into GROUP; '-' takes them out of theirs.

    \b
    motive queries group my-clips turning wanted/spin/1.mp4 wanted/roll/3.mp4
    """
    import motive_fo

    _emit(out, motive_fo.group_queries(dataset, names, None if group == "-" else group), "nothing grouped")


@queries_group.command("template")
@click.argument("folder", type=click.Path())
@output_options(progress=False)
def template_command(folder: str, out: Output) -> None:
    """Write prompts of the paper's ten motions into FOLDER, one text file for each clip to be made.

    Put the clip made of spin/1.txt beside it as spin/1.mp4, by any generator; then add the folder.

    \b
    motive queries template wanted/
    """
    from motive_fo.pipeline.queries import write_template

    files = [str(path) for path in write_template(folder)]
    out.emit({"prompts": files}, [f"{len(files)} prompts in {folder}: put each clip beside its prompt, then add them"])


@queries_group.command("generate")
@click.argument("folder", type=click.Path())
@click.option("--model", default="tiny", show_default=True, help="video model; the attributed one is best")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="of the noise they begin with")
@output_options()
def generate_command(folder: str, model: str, device: str, seed: int, out: Output) -> None:
    """Let a model make the clips of FOLDER's prompts. Clips that are there already are kept.

    \b
    motive queries generate wanted/
    """
    from motive_fo.pipeline.queries import generate_queries

    with out.progress() as progress:
        files = [str(path) for path in generate_queries(folder, model, device=device, seed=seed, progress=progress)]
    out.emit({"generated": files}, [*files, f"{len(files)} clips made in {folder}"])


def _emit(out: Output, queries: list[Query], nothing: str) -> None:
    rows: list[dict[str, Any]] = [query.as_dict() for query in queries]
    width = max((len(query.group or "-") for query in queries), default=0)
    lines = [f"{'avoid ' if q.avoid else 'follow'}  {q.group or '-':<{width}}  {q.id}  {q.caption}" for q in queries]
    if others := {q.id: q.other_caption for q in queries if q.other_caption is not None}:
        from motive_fo.dataset.imports import conflict_sentence

        lines.append(f"note: {conflict_sentence(others)}")
    out.emit(rows, lines or [nothing])
