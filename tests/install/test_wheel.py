"""What a user gets who installs the wheel."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "fiftyone.yml", "motive_fo", "cli", "plugin")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # built from a copy: setuptools leaves its working folders in the tree it builds
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(tree)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_top_level_names_are_ours(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {re.sub(r"-.*", "", top) for top in tops} == {"motive_fo", "motive_fo_cli", "motive_fo_plugin"}


@pytest.mark.parametrize(
    "name",
    ["motive_fo/py.typed", "motive_fo/models/tiny/weights.safetensors", "motive_fo_plugin/fiftyone.yml"],
)
def test_data_files_are_in(wheel, name):
    assert name in wheel.namelist()


def test_every_module_is_in(wheel):
    """The package list in pyproject.toml is written by hand: a new folder is easily forgotten there."""
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "motive_fo").rglob("*.py")}
    expected |= {f"motive_fo_cli/{path.relative_to(ROOT / 'cli').as_posix()}" for path in (ROOT / "cli").rglob("*.py")}
    expected |= {
        f"motive_fo_plugin/{path.relative_to(ROOT / 'plugin').as_posix()}" for path in (ROOT / "plugin").rglob("*.py")
    }
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected


def test_the_script_is_called_motive(wheel):
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert re.findall(r"^(\S+) *= *(\S+)$", text, re.MULTILINE) == [("motive", "motive_fo_cli.main:main")]
