"""Entry of the FiftyOne plugin. FiftyOne runs this file again for every request, so it only registers.

It is the only code in the plugins folder, and must load where the package is missing: to say so in every form.
"""

from __future__ import annotations

from typing import Any


def register(plugin: Any) -> None:
    """Register every operator and panel of the plugin."""
    try:
        from motive_fo_plugin.installed import note_version
        from motive_fo_plugin.operators import OPERATORS
        from motive_fo_plugin.panels import PANELS
    except ImportError as error:
        for name in plugin.plugin_definition.operators:
            plugin.register(_sentence(name, _missing(error)))
        return
    note_version(plugin.plugin_definition.version)
    for part in (*OPERATORS, *PANELS):
        plugin.register(part)


def _missing(error: ImportError) -> str:
    if (error.name or "").split(".")[0] in ("motive_fo", "motive_fo_plugin"):
        return "The App's Python lacks the package motive-fo: pip install motive-fo, then open the App again."
    return f"motive-fo cannot be loaded ({error}): install it again with pip install motive-fo."


def _sentence(name: str, sentence: str) -> type[Any]:
    """An operator whose form only says what is missing."""
    import fiftyone.operators as foo
    from fiftyone.operators import types

    class Missing(foo.Operator):
        @property
        def config(self) -> Any:
            return foo.OperatorConfig(name=name, label=f"Motive: {name.replace('_', ' ')}", description=sentence)

        def resolve_input(self, ctx: Any) -> Any:
            inputs = types.Object()
            shown = inputs.view("missing", types.Error(label=sentence))
            shown.invalid, shown.error_message = True, sentence
            return types.Property(inputs, view=types.View(label=self.config.label))

        def execute(self, ctx: Any) -> None:
            raise ValueError(sentence)

    return Missing
