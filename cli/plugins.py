"""``motive plugin install``: put the plugin where FiftyOne looks for it."""

from __future__ import annotations

import click

from .output import emit


@click.group("plugin")
def plugin_group() -> None:
    """The FiftyOne App plugin."""


@plugin_group.command("install")
@click.option("--folder", type=click.Path(), help="plugins folder [default: the one FiftyOne uses]")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def install_command(folder: str | None, as_json: bool) -> None:
    """Install the operators into FiftyOne's plugins folder. Safe to repeat; do it again after an upgrade."""
    from motive_fo.dataset.plugin import install_plugin

    place = install_plugin(folder)
    emit({"plugin": str(place)}, [f"the plugin is in {place}"], as_json)
