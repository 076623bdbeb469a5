"""``python -m benchmarks.robustness [--kills N] [--parts inputs,kills,...]``: results/robustness.json.

Needs PyAV's encoders and, for the disks, root on Linux. It starts a database of its own. Parts that were measured are
kept in ``benchmarks/.cache/robustness`` and only measured again when named; the result is written from
all that are there and names those that are not.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
from pathlib import Path

from benchmarks import record

_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "robustness"


def main() -> None:
    """Measure the parts that were asked for, then print and write all that are there."""
    from benchmarks.robustness.run import PARTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to measure now; none to only print")
    given = parser.parse_args()
    _CACHE.mkdir(parents=True, exist_ok=True)
    for part in filter(None, given.parts.split(",")):
        _measure(part, given.kills)
    found = [json.loads(path.read_text()) for part in PARTS if (path := _CACHE / f"{part}.json").is_file()]
    rows, goals = ([item for part in found for item in part[key]] for key in ("rows", "goals"))
    more = {key: value for part in found for key, value in part["more"].items()}
    measured = [part for part in PARTS if (_CACHE / f"{part}.json").is_file()]
    record.write("robustness", rows, goals, parts=measured, not_measured=sorted({*PARTS} - {*measured}), **more)


def _measure(part: str, kills: int) -> None:
    """One part in a scratch folder of its own, with a database of its own; kept in the cache."""
    with tempfile.TemporaryDirectory(prefix="motive-robustness-", ignore_cleanup_errors=True) as scratch:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        os.environ.update(
            FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{port}",
            FIFTYONE_DATABASE_NAME="robustness",
            FIFTYONE_DO_NOT_TRACK="true",
            FIFTYONE_SHOW_PROGRESS_BARS="false",
            MOTIVE_DATA=f"{scratch}/data",
            HF_HOME=f"{scratch}/hub",
        )
        child = os.fork()  # FiftyOne keeps the address it was imported with: a process for each part
        if child == 0:
            from benchmarks.robustness.run import run

            found = run(part, Path(scratch), port, kills)
            (_CACHE / f"{part}.json").write_text(json.dumps(found))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"the part {part} failed")


if __name__ == "__main__":
    main()
