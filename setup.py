"""Puts ``fiftyone.yml`` into the wheel beside the plugin's code: ``motive plugin install`` works without a clone."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithManifest(build_py):
    """Copies the manifest into a built package; a clone has it in its place."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "motive_fo_plugin"
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile("fiftyone.yml", target / "fiftyone.yml")


setup(cmdclass={"build_py": BuildWithManifest})
