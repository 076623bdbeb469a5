"""Entry of the FiftyOne plugin. FiftyOne runs this file again for every request, so it only registers."""

from __future__ import annotations

from typing import Any


def register(plugin: Any) -> None:
    """Register every operator of the plugin."""
    from motive_fo_plugin.operators import OPERATORS

    for operator in OPERATORS:
        plugin.register(operator)
