"""What the audit says of pip-audit's answers."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parents[2] / "scripts" / "audit.py"
HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}


def _audit(tmp_path, answer):
    fake = tmp_path / "pip-audit"
    fake.write_text(f"#!{sys.executable}\nimport sys\nassert '--path' in sys.argv\nsys.stdout.write({answer!r})\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return subprocess.run([sys.executable, AUDIT, fake], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        (
            [{"name": "a", "version": "1.0", "vulns": [HOLE]}, {"name": "b", "version": "1", "vulns": []}],
            1,
            "a 1.0: PYSEC-1, mended in 2.0\n2 packages looked up, 1 known holes; the index tells nothing of 0\n",
        ),
        ([{"name": "b", "version": "1", "vulns": []}], 0, "1 packages looked up, 0 known holes"),
        (
            [{"name": "c", "skip_reason": "not found"}],
            0,
            "0 packages looked up, 0 known holes; the index tells nothing of 1",
        ),
    ],
    ids=["a hole", "none", "not told"],
)
def test_holes_fail_and_silence_is_said(tmp_path, packages, code, says):
    done = _audit(tmp_path, json.dumps({"dependencies": packages, "fixes": []}))
    assert done.returncode == code
    assert says in done.stdout


def test_no_answer_is_no_clean_answer(tmp_path):
    done = _audit(tmp_path, "")
    assert done.returncode == 1
    assert "gave no answer" in done.stdout
