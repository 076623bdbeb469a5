"""Which version of the plugin FiftyOne found in its plugins folder, and whether it fits this package."""

from __future__ import annotations

import motive_fo

folder_version: str | None = None
"""Version in the ``fiftyone.yml`` beside the entry that was registered last; None before."""


def note_version(version: str | None) -> None:
    """Called by the entry, which is all that lies in the plugins folder."""
    global folder_version
    folder_version = version


def mismatch() -> str | None:
    """One sentence where folder and package are of different versions."""
    if folder_version in (None, motive_fo.__version__):
        return None
    return (
        f"The plugin folder is of version {folder_version}, the package motive-fo of {motive_fo.__version__}: "
        "run `motive plugin install` in the App's environment and open the App again."
    )
