"""All parts in order, as one table with its goals."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.record import goal
from benchmarks.robustness.bad import measure_inputs, rows_of
from benchmarks.robustness.faults import (
    STEPS,
    Database,
    begin,
    compared,
    disks,
    in_child,
    kills,
    snapshot,
    step,
    told,
)
from benchmarks.robustness.pressure import memory, writers

Rows = list[dict[str, Any]]


PARTS = ("inputs", "kills", "disks", "database", "memory", "writers")


def run(part: str, scratch: Path, port: int, wanted_kills: int) -> dict[str, Any]:
    """One part: its rows, goals and what else to keep."""
    rows: Rows = []
    goals: Rows = []
    more: dict[str, Any] = {}
    if part == "inputs":
        _inputs(scratch, rows, goals, more)
        return {"rows": rows, "goals": goals, "more": more}
    clips = scratch / "clips"
    in_child(_corpus, str(clips))
    database = Database(scratch / "db", port)
    database.start()
    try:
        _import_all()
        if part == "kills":
            _kills(scratch, clips, wanted_kills, rows, goals, more)
        elif part == "disks":
            _disks(scratch, clips, rows, goals, more)
        elif part == "memory":
            _memory(scratch, clips, rows, goals, more)
        elif part == "writers":
            _writers(scratch, clips, rows, goals, more)
        else:
            _database(scratch, clips, database, rows, goals, more)
    finally:
        database.stop()
    return {"rows": rows, "goals": goals, "more": more}


def _inputs(scratch: Path, rows: Rows, goals: Rows, more: dict[str, Any]) -> None:
    hangs = crashes = 0
    try:
        in_child(measure_inputs, scratch, scratch / "ends.json", limit=1200)
    except RuntimeError as error:
        print(error)
        hangs, crashes = int("hang" in str(error)), int("hang" not in str(error))
    data = json.loads((scratch / "ends.json").read_text()) if (scratch / "ends.json").exists() else {"ends": []}
    found = rows_of(data["ends"])
    rows += found
    own = [row for row in found if row["tried"] != "input: found odd files"]
    count, least = sum(row["times"] for row in own), min((row["times"] for row in own), default=0)
    open_ends = sum(
        (status == "done" and not code) or status == "pending" or code == "internal_error"
        for _, status, code in data["ends"]
    )
    more["longest_clip_seconds"] = round(data.get("longest", -1.0), 2)
    goals += [
        goal("bad inputs, generated", ">= 500", count, count >= 500),
        goal("kinds of bad inputs", ">= 25", len(own), len(own) >= 25),
        goal("inputs of each kind, at least", ">= 10", least, least >= 10),
        goal("inputs that ended in no result and no code that says why", "0", open_ends, open_ends == 0),
        goal("hangs over bad inputs", "0", hangs, hangs == 0),
        goal("crashes of the main process over bad inputs", "0", crashes, crashes == 0),
    ]


def _kills(scratch: Path, clips: Path, wanted: int, rows: Rows, goals: Rows, more: dict[str, Any]) -> None:
    made = kills(scratch, clips, wanted, print)
    for name in STEPS:
        rows.append({"tried": f"SIGKILL in {name}", "times": made["killed"][name], "ended": "continued and finished"})
    lost, count = len(made["different"]), sum(made["killed"].values())
    more |= {"different": made["different"][:50], "compared_per_round": made["compared"], "rounds": made["rounds"]}
    goals += [
        goal("kills at random moments, over all steps", ">= 100", count, count >= 100),
        goal("rows, fields, views and files lost or different after them", "0", lost, lost == 0),
    ]


def _disks(scratch: Path, clips: Path, rows: Rows, goals: Rows, more: dict[str, Any]) -> None:
    try:
        found = disks(scratch, clips)
    except PermissionError as error:
        rows.append({"tried": "disk full and read-only", "times": 0, "ended": f"not possible here: {error}"})
        return
    wild = 0
    lost = sum(len(row.get("different", ())) for row in found)
    for row in found:
        if row["step"] != "afterwards":
            wild += row["said"].startswith("not caught")
            rows.append(
                {"tried": f"{row['fault']}: {row['step']}", "times": 1, "ended": row["said"] or "no disk needed"}
            )
        else:
            rows.append(
                {"tried": f"{row['fault']}, then room", "times": 1, "ended": f"{len(row['different'])} differences"}
            )
            more[row["fault"]] = row["different"][:50]
    goals += [
        goal("steps on a full or read-only disk that ended without a clear sentence", "0", wild, wild == 0),
        goal("differences from a calm run once the disk had room", "0", lost, lost == 0),
    ]


def _database(scratch: Path, clips: Path, database: Database, rows: Rows, goals: Rows, more: dict[str, Any]) -> None:
    (home := scratch / "db-home").mkdir()
    (calm := scratch / "db-calm").mkdir()
    in_child(begin, str(calm), str(clips))
    for name in STEPS:
        in_child(step, name, str(calm))
    wanted = in_child(snapshot, str(calm))
    in_child(begin, str(home), str(clips))
    wild = 0
    for name in STEPS:
        database.stop(kill=True)
        said = in_child(told, name, str(home))
        database.start()
        wild += said.startswith("not caught") or not said
        rows.append({"tried": f"no database: {name}", "times": 1, "ended": " ".join(said.split())[:160]})
        in_child(step, name, str(home))
    lost = compared(wanted, in_child(snapshot, str(home)))
    rows.append({"tried": "database back", "times": 1, "ended": f"{len(lost)} differences"})
    more["database back"] = lost[:50]
    goals += [
        goal("steps without a database that ended without a clear sentence", "0", wild, wild == 0),
        goal("differences from a calm run once the database was back", "0", len(lost), not lost),
    ]


def _memory(scratch: Path, clips: Path, rows: Rows, goals: Rows, more: dict[str, Any]) -> None:
    *tried, after = memory(scratch, clips)
    for name in STEPS:
        ends = Counter(_short(row["said"]) or "finished" for row in tried if row["step"] == name)
        ended = "; ".join(f"{count} {end}" for end, count in ends.most_common())
        rows.append({"tried": f"memory short: {name}", "times": ends.total(), "ended": ended})
    wild, lost = sum(row["said"].startswith("not caught") for row in tried), after["different"]
    rows.append({"tried": "memory short, then enough", "times": 1, "ended": f"{len(lost)} differences"})
    more |= {"memory": tried, "memory afterwards": lost[:50]}
    goals += [
        goal("steps without enough memory that ended without a clear sentence", "0", wild, wild == 0),
        goal("differences from a calm run once there was memory", "0", len(lost), not lost),
    ]


def _writers(scratch: Path, clips: Path, rows: Rows, goals: Rows, more: dict[str, Any]) -> None:
    found = writers(scratch, clips, rounds=4)
    lost = [key for row in found for key in row.get("different", ())]
    wild = 0
    for name in STEPS:
        said = [row["said"] for row in found if row["step"] == name]
        wild += sum(one.startswith("not caught") for each in said for one in each)
        wild += sum(all(each) for each in said)
        refused = sum(any(each) for each in said)
        ended = f"{refused} times one was refused, {len(said) - refused} times both went through"
        rows.append({"tried": f"two processes at once: {name}", "times": len(said), "ended": ended})
    rows.append({"tried": "two processes, afterwards", "times": 4, "ended": f"{len(lost)} differences"})
    more |= {"writers": [row for row in found if "said" in row], "writers afterwards": lost[:50]}
    goals += [
        goal(
            "pairs of processes of which neither finished, or one ended without a clear sentence", "0", wild, wild == 0
        ),
        goal("differences from a calm run after two processes at once", "0", len(lost), not lost),
    ]


def _short(said: str) -> str:
    return " ".join(said.split())[:90]


def _corpus(folder: str) -> None:
    from motive_fo.synthetic.corpus import write_corpus

    write_corpus(Path(folder), train=6, queries=2, static=1, damaged=2, seed=3, size=(64, 64), seconds=1.25, fps=16)


def _import_all() -> None:
    """What children then need not import. Nothing is opened here: a connection or a thread does not survive a fork."""
    import fiftyone  # noqa: F401

    import motive_fo.dataset.curation
    import motive_fo.dataset.export
    import motive_fo.dataset.steps
    import motive_fo.pipeline.gradients
    import motive_fo.pipeline.scoring  # noqa: F401
