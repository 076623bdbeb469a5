"""``motive plugin install``: put the plugin where FiftyOne looks for it."""

from __future__ import annotations

import click

from .output import Output, output_options


@click.group("plugin")
def plugin_group() -> None:
    """The FiftyOne App plugin."""


@plugin_group.command("install")
@click.option("--folder", type=click.Path(), help="plugins folder [default: the one FiftyOne uses]")
@output_options(progress=False)
def install_command(folder: str | None, out: Output) -> None:
    """Install the operators into FiftyOne's plugins folder. Safe to repeat; do it again after an upgrade.

    \b
    motive plugin install
    motive plugin install --folder ~/fiftyone-plugins
    """
    from motive_fo.dataset.plugin import install_plugin

    place = install_plugin(folder)
    out.emit({"plugin": str(place)}, [f"the plugin is in {place}"])
