"""Commands over the latents and text embeddings that large models leave for later runs."""

from __future__ import annotations

from dataclasses import asdict

import click

from .output import Output, output_options

_folder = click.option("--folder", type=click.Path(), help="another folder of encodings than the data folder's")


@click.group("encodings")
def encodings_group() -> None:
    """What large models' encoders made of clips and captions, kept for later runs."""


@encodings_group.command("info")
@_folder
@output_options(progress=False)
def info_command(folder: str | None, out: Output) -> None:
    """How many encodings are kept, and the disk they take.

    \b
    motive encodings info
    """
    from motive_fo.dataset.run_record import encodings_folder
    from motive_fo.store.encodings import contents

    held = contents(folder or encodings_folder())
    lines = [f"{kind}: {count} entries, {_size(held.bytes[kind])}" for kind, count in held.entries.items()]
    out.emit(asdict(held), [held.folder, *lines])


@encodings_group.command("clear")
@_folder
@click.option("--yes", is_flag=True, help="do not ask")
@output_options(progress=False)
def clear_command(folder: str | None, yes: bool, out: Output) -> None:
    """Throw all encodings away. No result is lost: what is needed again is made again.

    \b
    motive encodings clear
    motive encodings clear --yes
    """
    from motive_fo.dataset.run_record import encodings_folder
    from motive_fo.store.encodings import clear, contents

    place = folder or encodings_folder()
    held = contents(place)
    count, size = sum(held.entries.values()), _size(sum(held.bytes.values()))
    if not yes and count:
        click.confirm(f"throw {count} encodings away ({size} in {held.folder})?", abort=True, err=True)
    clear(place)
    out.emit(asdict(held), [f"threw {count} encodings away, {size}"])


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
