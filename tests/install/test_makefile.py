"""The Makefile says what it does and does what it says; nothing here reaches a network."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {"help", "install", "demo", "app", "test", "test-slow", "test-app", "lint", "clean", "distclean"}
TARGETS |= {"audit", "coverage", "mutants"}

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def run_make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # the suite itself runs under make: its flags must not reach this one
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))} | variables
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@needs_make
@pytest.mark.parametrize("arguments", [(), ("help",)])
def test_help_lists_every_target(arguments):
    listed = set(re.findall(r"^  ([a-z-]+) {2,}\S", run_make(*arguments).stdout, re.MULTILINE))
    assert listed == TARGETS


@needs_make
def test_test_lints_checks_types_and_runs_pytest():
    lines = run_make("-n", "test", "PYTEST_ARGS=-k tiny", "VENV=elsewhere").stdout
    order = [lines.index(f"elsewhere/bin/{tool}") for tool in ("ruff check", "mypy motive_fo", "pytest --numprocesses")]
    assert order == sorted(order)
    assert lines.splitlines()[-1].endswith(" -k tiny")


@needs_make
def test_demo_passes_its_arguments():
    assert run_make("-n", "demo", "ARGS=--videos clips").stdout.splitlines()[-1].endswith("motive demo --videos clips")


@needs_make
def test_torch_comes_first_and_alone_from_its_index():
    run = run_make("-n", "install", "VENV=elsewhere", "TORCH_INDEX=INDEX", "TORCH_VERSION=9.9")
    pip_lines = [line for line in run.stdout.splitlines() if "-m pip" in line]
    from_the_index = [line for line in pip_lines if "INDEX" in line]
    assert [line.split("--index-url")[1].split() for line in from_the_index] == [['"INDEX"', "torch==9.9"]]
    assert pip_lines.index(from_the_index[0]) < next(i for i, line in enumerate(pip_lines) if "fiftyone==" in line)


def _program(folder: Path, name: str, text: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def _make_venv(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    venv = tmp_path / "venv"
    return run_make(f"{venv}/bin/python", f"VENV={venv}", PATH=f"{tmp_path}:{os.environ['PATH']}")


@needs_make
def test_an_older_python_gives_way_to_a_newer_one(tmp_path):
    _program(tmp_path, "python3", "exit 1")
    _program(tmp_path, "python3.11", 'echo "chosen: $*"')
    assert "chosen: -m venv" in _make_venv(tmp_path).stdout


@needs_make
def test_only_older_pythons_are_refused_with_a_sentence(tmp_path):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        _program(tmp_path, name, "exit 1")
    run = _make_venv(tmp_path)
    assert run.returncode != 0
    assert "No Python >= 3.11 found" in run.stderr


@needs_make
def test_a_python_without_venv_is_refused_with_a_sentence(tmp_path):
    _program(tmp_path, "python3", 'case "$*" in *ensurepip*) exit 1;; esac')
    run = _make_venv(tmp_path)
    assert run.returncode != 0
    assert "apt install python3-venv" in run.stderr
    assert not (tmp_path / "venv").exists()


def _run_ci(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """CI with nothing installed but a few tools and the given programs, each a shell script."""
    for tool in ("bash", "dirname", "timeout", "id"):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    for name, text in programs.items():
        _program(folder, name.replace("_", "-"), text)
    (folder / "sh").symlink_to("/bin/sh")
    return subprocess.run(
        [ROOT / ".ci" / "run"], env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60, check=False
    )


BENCHMARK = "make test-slow PYTEST_ARGS=tests/quality/test_attribution_benchmark.py --numprocesses=2\n"


def test_ci_runs_the_readmes_test_command_and_then_the_tests_of_the_app(tmp_path):
    assert "make test " in (ROOT / "README.md").read_text()
    run = _run_ci(tmp_path, make='echo "make $*"', chromium="")
    assert (run.returncode, run.stdout) == (0, f"make test\n{BENCHMARK}make audit\nmake test-app\n")


def test_ci_installs_chromium_where_it_can(tmp_path):
    chromium = tmp_path / "chromium"
    install = f'case "$*" in *install*) echo "#!/bin/sh" > {chromium}; /bin/chmod +x {chromium};; esac'
    run = _run_ci(tmp_path, make='echo "make $*"', apt_get=install, id="echo 0")
    assert (run.returncode, run.stdout) == (0, f"make test\n{BENCHMARK}make audit\nmake test-app\n")


def test_ci_says_why_it_leaves_the_tests_of_the_app_out(tmp_path):
    run = _run_ci(tmp_path, make='echo "make $*"', apt_get="exit 100", id="echo 0")
    assert run.returncode == 0
    assert run.stdout.startswith(f"make test\n{BENCHMARK}make audit\nskipped make test-app: ")
    assert len(run.stdout.splitlines()) == 4


@pytest.mark.parametrize("target", ["test", "test-slow", "test-app"])
def test_ci_fails_with_either_suite(tmp_path, target):
    run = _run_ci(tmp_path, make=f'[ "$1" != {target} ]', chromium="")
    assert run.returncode != 0
