"""Known holes of the packages beside this interpreter: python scripts/audit.py PIP_AUDIT

Prints them and ends with 1 if there are any. Says how many packages the index told nothing of: an index without
advisories finds no hole in anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from typing import Any


def read(answer: str) -> tuple[list[str], int, int]:
    """What pip-audit answered in JSON: a line for each hole, packages looked up, packages it could not look up."""
    packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    told = [package for package in packages if "skip_reason" not in package]
    holes = []
    for package in told:
        for hole in package["vulns"]:
            mended = ", ".join(hole["fix_versions"]) or "no release yet"
            holes.append(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    return holes, len(told), len(packages) - len(told)


def main() -> int:
    """Run pip-audit and say what it found."""
    command = [sys.argv[1], "--path", sysconfig.get_path("purelib"), "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        holes, told, untold = read(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"pip-audit gave no answer: {last}")
        return 1
    print(*holes, sep="\n", end="\n" if holes else "")
    print(f"{told} packages looked up, {len(holes)} known holes; the index tells nothing of {untold}")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())
