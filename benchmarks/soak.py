"""A job that goes on for an hour: memory, file handles, threads: python -m benchmarks.soak [--minutes 60]

One process, round after round: a corpus of small clips, damaged ones among them, is imported, described, attributed,
scored, curated and deleted again with all that was kept of it. What a round leaves behind adds up; resident memory,
open files, threads, child processes and files in the temporary folder are taken after each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.mongod import start_database
from benchmarks.record import goal, write

CLIPS, QUERIES = 100, 4
WARM_ROUNDS = 3  # what libraries load and allocate at first is no leak


def held(scratch: Path) -> dict[str, float]:
    """What this process and its scratch folder hold now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "resident_mib": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "kernel_threads": int(status["Threads"]),
        "children": len(children),
        "temporary": sum(len(names) + len(folders) for _, folders, names in os.walk(scratch / "tmp")),
    }


def write_clips(folder: Path) -> None:
    """The corpus of every round."""
    from motive_fo.synthetic.corpus import write_corpus

    write_corpus(folder, train=CLIPS, queries=QUERIES, static=4, damaged=8, size=(64, 64), seconds=1.25, fps=16)


def one_round(number: int, scratch: Path) -> int:
    """The corpus from import to curation, and gone again. Returns the clips it has."""
    import motive_fo
    from motive_fo.dataset.connect import fiftyone

    name = f"soak-{number}"
    motive_fo.import_clips(scratch / "clips" / "train", name)
    motive_fo.import_clips(scratch / "clips" / "queries", name, role="query")
    motive_fo.compute_gradients(name)
    motive_fo.score_influence(name)
    motive_fo.curate(name)
    motive_fo.delete_run(name)
    fiftyone().delete_dataset(name)
    shutil.rmtree(scratch / "data")
    return CLIPS + QUERIES


def slope_per_1000(rows: list[dict[str, Any]], key: str) -> float:
    """Least-squares growth of a quantity for 1,000 clips."""
    import numpy as np

    return float(np.polyfit([row["clips"] for row in rows], [row[key] for row in rows], 1)[0] * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="motive-soak-") as name:
        scratch = Path(name)
        (scratch / "tmp").mkdir()
        os.environ |= {"TMPDIR": str(scratch / "tmp"), "HF_HOME": str(scratch / "hub")}
        tempfile.tempdir = None
        start_database(scratch)
        write_clips(scratch / "clips")
        rows: list[dict[str, Any]] = []
        began, clips = time.monotonic(), 0
        while time.monotonic() - began < 60 * given.minutes:
            clips += one_round(len(rows), scratch)
            rows.append({"minutes": (time.monotonic() - began) / 60, "clips": clips, **held(scratch)})
            print({key: round(value, 1) for key, value in rows[-1].items()}, flush=True)
    _record(rows)


def _record(rows: list[dict[str, Any]]) -> None:
    warm = rows[WARM_ROUNDS:]
    growth = {key: slope_per_1000(warm, key) for key in held_keys(rows)}
    shown = [warm[0], *warm[len(warm) // 4 :: max(1, len(warm) // 4)], warm[-1]]
    minutes, clips = rows[-1]["minutes"], rows[-1]["clips"]
    limits = {"resident_mib": ("resident memory, MiB,", 5.0)}
    limits |= {key: (key.replace("_", " "), 0.1) for key in ("files", "threads", "kernel_threads", "children")}
    goals = [
        goal("minutes", ">= 60", minutes, minutes >= 60),
        goal("clips", ">= 2000", clips, clips >= 2000),
    ]
    goals += [
        goal(f"growth of {what} for 1,000 clips (ours)", f"<= {most:g}", growth[key], growth[key] <= most)
        for key, (what, most) in limits.items()
    ]
    goals.append(goal("files left in the temporary folder", "0", warm[-1]["temporary"], warm[-1]["temporary"] == 0))
    write("soak", shown, goals, rounds=len(rows), every=rows)


def held_keys(rows: list[dict[str, Any]]) -> list[str]:
    """The quantities of a row."""
    return [key for key in rows[0] if key not in ("minutes", "clips")]


if __name__ == "__main__":
    main()
