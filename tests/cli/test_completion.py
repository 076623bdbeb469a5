"""Shell completion, by a real bash with the script we print."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

MOTIVE = Path(sys.executable).with_name("motive")

_COMPLETE = """
set -eu
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMPREPLY=()
compopt() { :; }  # only bash itself may call it while it completes
_motive_completion motive
printf '%s\\n' "${COMPREPLY[@]-}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    path = tmp_path_factory.mktemp("completion") / "motive.bash"
    ran = subprocess.run([MOTIVE, "completion", "bash"], capture_output=True, text=True, check=True)
    path.write_text(ran.stdout)
    return path


@pytest.fixture
def complete(script, tmp_path):
    """What bash offers for words, the last of which is being typed, with a data folder that holds two datasets."""
    for place in ("clips/motive.zarr", "clips/longer.zarr", "holiday/motive.zarr", "empty"):
        (tmp_path / place).mkdir(parents=True)
    environment = {"PATH": f"{MOTIVE.parent}:/usr/bin:/bin", "MOTIVE_DATA": str(tmp_path), "HOME": str(tmp_path)}

    def offered(*words):
        command = ["bash", "--norc", "-c", _COMPLETE, "bash", str(script), "motive", *words]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split()

    return offered


def test_commands_options_and_choices(complete):
    assert {"import", "gradients", "run", "runs"} <= set(complete(""))
    assert complete("grad") == ["gradients"]
    assert complete("runs", "d") == ["delete"]
    assert complete("gradients", "clips", "--dry") == ["--dry-run"]
    assert complete("influence", "clips", "--mask-side", "") == ["both", "query", "train", "none"]
    assert complete("completion", "") == ["bash", "zsh", "fish"]


def test_datasets_and_their_runs_from_the_data_folder(complete):
    assert complete("gradients", "") == ["clips", "holiday"]
    assert complete("app", "h") == ["holiday"]
    assert complete("influence", "clips", "--run", "") == ["longer", "motive"]
    assert complete("runs", "show", "holiday", "") == ["motive"]
    assert {"page", "show", "like", "clips", "holiday"} <= set(complete("motion", ""))
    assert complete("motion", "clips", "--dry") == ["--dry-run"]
    assert complete("motion", "--dry") == ["--dry-run"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_MOTIVE_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.stdout, text=True, check=True)


def test_an_unknown_shell_is_refused():
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


def test_completing_imports_nothing_heavy():
    code = (
        "import os, sys\n"
        "os.environ.update(_MOTIVE_COMPLETE='bash_complete', COMP_WORDS='motive gradients x --run ', COMP_CWORD='4')\n"
        "from motive_fo_cli.main import main\n"
        "try:\n    main(prog_name='motive')\nexcept SystemExit:\n    pass\n"
        "heavy = [m for m in ('torch', 'fiftyone', 'cv2', 'av', 'zarr', 'numpy') if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
