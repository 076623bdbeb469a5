"""Installing the App plugin: FiftyOne has no discovery through pip, it reads folders."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from motive_fo.errors import MotiveError

FOLDER = "motive-fo"
MANIFEST = "fiftyone.yml"
ASSETS = "assets"


def plugins_folder() -> Path:
    """Where FiftyOne looks for plugins, without importing it where the environment says."""
    named = os.environ.get("FIFTYONE_PLUGINS_DIR")
    if named:
        return Path(named).expanduser()
    from motive_fo.dataset.connect import fiftyone

    return Path(fiftyone().config.plugins_dir)


def install_plugin(folder: str | Path | None = None) -> Path:
    """Copy manifest, entry file and icons of the plugin into a plugins folder. The operators stay in the package.

    Returns:
        the plugin's folder.

    Raises:
        MotiveError: the folder cannot be written, or the package lacks the plugin.
    """
    target = (Path(folder).expanduser() if folder is not None else plugins_folder()) / FOLDER
    manifest, entry = _sources()
    try:
        (target / "plugin").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(manifest, target / MANIFEST)
        shutil.copyfile(entry, target / "plugin" / "__init__.py")
        shutil.rmtree(target / "plugin" / ASSETS, ignore_errors=True)
        shutil.copytree(entry.parent / ASSETS, target / "plugin" / ASSETS)
    except OSError as error:
        raise MotiveError(f"cannot write the plugin to {target}: {error.strerror}; choose another --folder") from None
    return target


def _sources() -> tuple[Path, Path]:
    spec = find_spec("motive_fo_plugin")
    if spec is None or spec.origin is None:
        raise MotiveError("the package motive_fo_plugin is missing: install motive-fo again")
    entry = Path(spec.origin)
    for manifest in (entry.parent / MANIFEST, entry.parent.parent / MANIFEST):  # installed from a wheel; from a clone
        if manifest.is_file():
            return manifest, entry
    raise MotiveError("fiftyone.yml is missing from the installation: install motive-fo again")
