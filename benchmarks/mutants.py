"""Would the tests notice a wrong line? python -m benchmarks.mutants [MODULE ...]

mutmut changes one thing at a time in a copy of the tree: an operator, a number, a comparison, an argument, a text. It
runs the tests of the module on each change, all of them if need be: a mutant is killed by a test that fails. Those that
survive are looked at: they need a test, or a line in ``mutants_explained.yaml`` that says why nothing can notice, or
why nothing should. mutmut leaves out decorated functions (properties, context managers) and the module's own level.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import record

ROOT = Path(__file__).resolve().parents[1]
RESULT = record.RESULTS / "mutants.json"
EXPLAINED = Path(__file__).with_name("mutants_explained.yaml")
#: module -> the tests that belong to it; a few slow ones that others make up for are left out (``_SETTINGS``)
TESTS = {
    "attribution/projection": ["attribution/test_projection.py", "attribution/test_srht.py"],
    "attribution/loss": ["attribution/test_loss.py"],
    "motion/mask": ["motion/test_mask.py"],
    "influence/selection": ["influence/test_selection.py"],
    "store/table": ["store/test_table.py", "store/test_mutants.py"],
    "store/run_store": ["store/test_run_store.py", "store/test_place.py", "store/test_mutants.py"],
}
_SETTINGS = """
[tool.mutmut]
source_paths = ["motive_fo"]
only_mutate = ["motive_fo/{module}.py"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-k", "not as_good_as and not papers_matrix"]
pytest_add_cli_args_test_selection = {tests}
also_copy = ["cli", "plugin", "fiftyone.yml"]
timeout_multiplier = 4  # of the tests' own time: an endless loop is killed, a slow machine does not kill
"""


@dataclass(frozen=True)
class Change:
    """What one mutant changes, as text without indentation: what mutmut calls it changes with every edit."""

    was: str
    becomes: str


@dataclass
class Verdicts:
    """Of one module: how many mutants there are, how many were tried, and the changes no test noticed."""

    mutants: int
    tried: int
    survivors: list[Change]


class Reasons:
    """Why a change may survive: ``mutants_explained.yaml``."""

    def __init__(self) -> None:
        told = yaml.safe_load(EXPLAINED.read_text(encoding="utf-8"))
        #: parts of a line of which no change is noticed, in any module
        self._unnoticed = [re.compile(item["part"]) for item in told.pop("everywhere")]
        self._changes = {module: [Change(each["was"], each["becomes"]) for each in told[module]] for module in told}

    def cover(self, module: str, change: Change) -> bool:
        """Whether there is a reason for it."""
        same = any(part.sub("", change.was) == part.sub("", change.becomes) for part in self._unnoticed)
        return same or change in self._changes.get(module, [])

    def in_vain(self, module: str, survivors: list[Change]) -> list[Change]:
        """Reasons for changes that a test does notice."""
        return [change for change in self._changes.get(module, []) if change not in survivors]


def judge(module: str, children: int, endings: str = "") -> Verdicts:
    """Run the tests on the mutants of a module, in a copy of the tree.

    Args:
        children: mutants at a time.
        endings: digits; mutmut numbers the mutants of each function, and only numbers that end so are tried. All if "".
    """
    with tempfile.TemporaryDirectory(prefix="motive-mutants-") as folder:
        copy = Path(folder)
        for name in ("motive_fo", "cli", "plugin", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "fiftyone.yml"):
            shutil.copy(ROOT / name, copy)
        tests = [f"tests/{each}" for each in TESTS[module]]
        with (copy / "pyproject.toml").open("a") as file:
            file.write(_SETTINGS.format(module=module, tests=tests))
        _mutmut(copy, "run", "--max-children", str(children), *[f"*{digit}" for digit in endings])
        lines = [line.split() for line in _mutmut(copy, "results", "--all", "true").splitlines()]
        said = {line[0].rstrip(":"): " ".join(line[1:]) for line in lines if line and "__mutmut_" in line[0]}
        tried = {name: outcome for name, outcome in said.items() if outcome != "not checked"}
        lost = [name for name, outcome in tried.items() if outcome not in ("killed", "timeout")]
        return Verdicts(len(said), len(tried), [change_of(_mutmut(copy, "show", name)) for name in lost])


def change_of(shown: str) -> Change:
    """What a diff of mutmut removes and adds."""
    lines = [line for line in shown.splitlines() if not line.startswith(("---", "+++"))]
    was, becomes = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Change(was, becomes)


def _mutmut(folder: Path, *args: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "mutmut", *args]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mutmut {args[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def row_of(module: str, verdicts: Verdicts) -> dict[str, Any]:
    """The module's row of the table; what is not explained is printed, and what is explained in vain."""
    reasons = Reasons()
    new = [change for change in verdicts.survivors if not reasons.cover(module, change)]
    gone = reasons.in_vain(module, verdicts.survivors) if verdicts.tried == verdicts.mutants else []
    for what, changes in (("survived, unexplained", new), ("explained, but a test notices it", gone)):
        for change in changes:
            print(f"{module}: {what}\n  - {change.was}\n  + {change.becomes}", flush=True)
    survived = len(verdicts.survivors)
    return {
        "module": module,
        "mutants": verdicts.mutants,
        "tried": verdicts.tried,
        "killed": verdicts.tried - survived,
        "survived": survived,
        "explained": survived - len(new),
        "killed, %": 100 * (verdicts.tried - survived) / verdicts.tried,
    }


def main() -> None:
    """Judge the modules and record the figures; a module that is not judged this time keeps its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"all where none is named: {', '.join(TESTS)}")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--endings", default="", help="try only mutants whose number ends in one of these digits")
    args = parser.parse_args()
    for module in args.modules or TESTS:
        row = row_of(module, judge(module, args.children, args.endings))
        rows = {each["module"]: each for each in json.loads(RESULT.read_text())["rows"]} if RESULT.exists() else {}
        rows[module] = row
        kept = [rows[module] for module in TESTS if module in rows]
        tried, killed, said = (sum(row[key] for row in kept) for key in ("tried", "killed", "explained"))
        goals = [
            record.goal("mutants tried, over all modules", ">= 240", tried, tried >= 240),
            record.goal("mutants killed or explained, %", "100", 100 * (killed + said) / tried, killed + said == tried),
        ]
        record.write("mutants", kept, goals)


if __name__ == "__main__":
    main()
