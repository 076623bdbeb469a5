"""FiftyOne at 100,000 and a million clips: python -m benchmarks.database

Dataset, database and store are real, and every part that writes or reads them is the product's own. Clips are empty
files: an import finds no video in them, so that its time is the listing's and the database's; what reading a video adds
is measured beside it, on links to one real video. Motion, losses and sketches are random numbers.

Each size has a process, a database and a folder of its own. Peak memory is that of the part, beyond what the process
had before its first one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mongod import start_database
from benchmarks.record import goal, write

DATASET, RUN = "scale", "motive"
QUERIES, DIMENSION, CURVE, BINS = 50, 64, 48, 8
CACHE_GB = 1.0
RATIO, FILTER, MEMORY_MIB = 1.2, 1.0, 4096
NEW = 1000  # clips of the next day
_BLOCK = 16384
_FOLDER_CLIPS = 1000


class Parts:
    """Seconds and memory of each part, in the order they were measured; written to ``out`` as they come."""

    def __init__(self, out: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        self._out = out
        self._start = _resident("VmRSS")

    def measure(self, part: str, work: Callable[[], Any], kind: str = "whole") -> Any:
        """Do some work once. Its kind says how it may grow with the dataset: ``whole`` as the dataset does, ``daily``
        as what is new does."""
        _forget_peak()
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        self._add({"part": f"{part}, s", "kind": kind, "value": seconds, "mib": _resident("VmHWM") - self._start})
        return result

    def look(self, part: str, work: Callable[[], Any], kind: str = "look") -> None:
        """The median of three times of something a person waits for."""
        times = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        self._add({"part": f"{part}, s", "kind": kind, "value": sorted(times)[1]})

    def figure(self, part: str, value: float) -> None:
        """What is no time."""
        self._add({"part": part, "kind": "figure", "value": value})

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self._out.write_text(json.dumps(self.rows))
        print(f"  {row['part']}: {row['value']:.3f}", file=sys.stderr, flush=True)


def _resident(which: str) -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at most since ``_forget_peak``."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def make_files(folder: Path, count: int) -> None:
    """Empty files with a listing of captions, a thousand in a folder."""
    with (folder / "metadata.jsonl").open("w") as listing:
        for n in range(count):
            name = f"{n // _FOLDER_CLIPS:04d}/{n:07d}.mp4"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            listing.write(json.dumps({"video": name, "prompt": f"a ball rolls over grass, take {n}"}) + "\n")


def fill_motion(store: Any, ids: list[str], seed: int = 0) -> Any:
    """Random motion of all clips, without masks; one in fifty is static, one in a hundred failed."""
    from motive_fo.store.table import Column, Status

    rng = np.random.default_rng(seed)
    names = ("mean", "p95", "peak", "camera_share", "moving_share", "smoothness", "dynamic_score")
    columns = {name: Column("float32") for name in names}
    columns |= {"hoof": Column("float32", (BINS,)), "curve": Column("float32", (CURVE,))}
    columns |= {"cuts": Column("int64"), "adjustment": Column("str")}
    table = store.table("motion", columns, {})
    table.register(ids)
    for first in range(0, len(ids), _BLOCK):
        rows = slice(first, min(len(ids), first + _BLOCK))
        for name in names:
            table._array(name)[rows] = rng.random(rows.stop - first, np.float32)
        for name, width in (("hoof", BINS), ("curve", CURVE)):
            table._array(name)[rows] = rng.random((rows.stop - first, width), np.float32)
    status = np.full(len(ids), Status.DONE, np.uint8)
    status[::50], status[1::100] = Status.STATIC, Status.FAILED
    table.finish(status)
    return store.table("motion")


def fill_sketches(store: Any, ids: dict[str, list[str]]) -> None:
    """Random sketches, norms and losses of training clips and queries."""
    from motive_fo.store.sketches import samples_of
    from motive_fo.store.table import Column, Status

    rng = np.random.default_rng(1)
    columns = {"sketch": Column("float32", (2, DIMENSION))}
    columns |= {"norm": Column("float64", (2,)), "loss": Column("float64", (2,))}
    for role, of_role in ids.items():
        (table,) = store.sketches(role, samples_of((750.748,), (0,)), columns, {"model": "none"}).tables.values()
        table.register(of_role)
        for first in range(0, len(of_role), _BLOCK):
            rows = slice(first, min(len(of_role), first + _BLOCK))
            count = rows.stop - first
            table._array("sketch")[rows] = rng.standard_normal((count, 2, DIMENSION), np.float32)
            table._array("norm")[rows] = rng.random((count, 2)) + 1
            table._array("loss")[rows] = rng.random((count, 2))
        table.finish(np.full(len(of_role), Status.DONE, np.uint8))


def imports(folder: Path, clips: int, parts: Parts) -> None:
    """Listing, import, import again, and the clips of the next day."""
    import motive_fo
    from motive_fo.dataset.imports import list_clips

    parts.measure("import: of it, list the folder", lambda: list_clips(folder / "clips"))
    parts.measure("import", lambda: motive_fo.import_clips(folder / "clips", DATASET))
    report = parts.measure("import again, nothing new", lambda: motive_fo.import_clips(folder / "clips", DATASET))
    assert report.unchanged == clips
    daily = f"import a folder of {NEW} new clips"
    parts.measure(daily, lambda: motive_fo.import_clips(folder / "new", DATASET), "daily")
    motive_fo.import_clips(folder / "wanted", DATASET, role="query")


def read_videos(folder: Path, parts: Parts) -> None:
    """What an import reads of each real video: 48 frames of 256 x 256."""
    from motive_fo.clips.probe import probe
    from motive_fo.synthetic.corpus import write_corpus

    write_corpus(folder, train=1, queries=1, static=0, damaged=0, seed=0, size=(256, 256), seconds=3, fps=16)
    video = next(folder.rglob("*.mp4"))
    links = [folder / f"link-{n}.mp4" for n in range(200)]
    for link in links:
        link.hardlink_to(video)
    start = time.perf_counter()
    for link in links:
        probe(link)
    parts.figure("import: in addition, read a real video, ms a clip", (time.perf_counter() - start) / len(links) * 1e3)


def steps(parts: Parts) -> None:
    """What the steps write once everything is computed: motion, states, gradients, influence, curation."""
    import motive_fo
    from motive_fo.dataset.choose import records_of
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.fields import write_gradients, write_motion, write_states
    from motive_fo.dataset.steps import open_step
    from motive_fo.dataset.views import save_motion_views

    dataset = load_dataset(DATASET)
    with open_step(dataset, RUN, None) as (record, store):
        chosen = parts.measure("read ids, paths and captions", lambda: records_of(dataset))
        ids = {role: records_of(dataset.match_tags(role)).ids for role in ("train", "query")}
        table = fill_motion(store, chosen.ids)
        parts.measure("write motion (10 fields)", lambda: write_motion(dataset, RUN, chosen, table))
        parts.measure("write motion, again", lambda: write_motion(dataset, RUN, chosen, table))
        parts.measure("write states (4 fields)", lambda: write_states(dataset, RUN, chosen, store))
        fill_sketches(store, ids)
        sketches = store.sketches("train")
        parts.measure("write losses and norms (2 fields)", lambda: write_gradients(dataset, RUN, chosen, sketches))
        parts.measure("save the views of motion", lambda: save_motion_views(dataset, record))
        rates(dataset, [chosen.sample_ids[clip_id] for clip_id in chosen.ids], parts)
        chosen = table = sketches = None
    parts.measure("influence: score and write 5 fields", lambda: motive_fo.score_influence(dataset, RUN))
    parts.measure("influence, again", lambda: motive_fo.score_influence(dataset, RUN))
    parts.measure("curate (6 fields, 7 views)", lambda: motive_fo.curate(dataset, RUN))
    parts.measure("curate, again", lambda: motive_fo.curate(dataset, RUN))


def rates(dataset: Any, sample_ids: list[str], parts: Parts) -> None:
    """Samples a second of one field: FiftyOne's own ``set_values`` beside ours, on the same samples."""
    from motive_fo.dataset.fields import write_fields

    some = sample_ids[:_BLOCK]
    values = np.random.default_rng(2).random((2, len(some)))
    start = time.perf_counter()
    dataset.set_values(f"{RUN}.loss", dict(zip(some, values[0].tolist(), strict=True)), key_field="id", progress=False)
    middle = time.perf_counter()
    write_fields(dataset, RUN, some, {"loss": values[1]})
    end = time.perf_counter()
    parts.figure("one field by set_values, samples/s", len(some) / (middle - start))
    parts.figure("one field by us, samples/s", len(some) / (end - middle))


def looks(dataset: Any, parts: Parts, kind: str) -> None:
    """What a person waits for: counts and first pages of filters, orders and saved views, figures of the sidebar."""
    from fiftyone import ViewField as F

    place = dataset.count(f"{RUN}.rank") // 10
    influence = dataset.match({f"{RUN}.influence_rank": place}).values(f"{RUN}.influence")[0]
    views = {
        "filter: influence in its highest tenth": dataset.match(F(f"{RUN}.influence") > influence),
        "filter: status is failed": dataset.match(F(f"{RUN}.status") == "failed"),
        "filter: motion between two values": dataset.match(
            (F(f"{RUN}.motion_mean") > 0.5) & (F(f"{RUN}.motion_mean") < 0.51)
        ),
        "filter: tagged query": dataset.match_tags("query"),
        "sort by rank": dataset.sort_by(f"{RUN}.rank"),
        "sort by motion, strongest first": dataset.sort_by(f"{RUN}.motion_mean", reverse=True),
        "a clip by its id": dataset.match(F("motive_id") == "clips/0000/0000007.mp4"),
    }
    for name in dataset.list_saved_views():
        views[f"saved view {name}"] = dataset.load_saved_view(name)

    def open_view(view: Any) -> None:
        view.count()
        view.limit(20).values(["id", "filepath", f"{RUN}.status"])

    for name, view in views.items():
        parts.look(f"{name}: count and first page", lambda view=view: open_view(view), kind)
    path = f"{RUN}.influence"
    parts.look("sidebar: values of status", lambda: dataset.distinct(f"{RUN}.status"), f"{kind} at all")
    parts.look("sidebar: bounds of influence", lambda: dataset.bounds(path), f"{kind} at all")
    parts.look("sidebar: histogram of influence", lambda: dataset.histogram_values(path, bins=50), f"{kind} at all")


def sizes(dataset: Any, folder: Path, parts: Parts) -> None:
    """Bytes a clip of the database, and of the indexes of the run by name."""
    import fiftyone.core.odm as foo

    database = foo.get_db_conn()
    database.client.admin.command("fsync")  # what is in memory only is no file yet
    statistics = database.command("collStats", dataset._sample_collection_name)
    count = dataset.count()
    for part, size in (
        ("documents, uncompressed", statistics["size"]),
        ("documents, on disk", statistics["storageSize"]),
        ("indexes, on disk", statistics["totalIndexSize"]),
        ("all files of the database but the journal", _bytes(folder / "db") - _bytes(folder / "db" / "journal")),
    ):
        parts.figure(f"{part}, bytes a clip", size / count)
    for name, size in statistics["indexSizes"].items():
        if name.startswith((RUN, "tags")):
            parts.figure(f"index {name.removesuffix('_1')}, bytes a clip", size / count)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(clips: int, folder: Path, out: Path) -> None:
    """Everything at one size, in this process."""
    for name, count in (("clips", clips), ("new", NEW), ("wanted", QUERIES)):
        (folder / name).mkdir()
        make_files(folder / name, count)
    start_database(folder, CACHE_GB)
    import motive_fo
    from motive_fo.dataset.connect import fiftyone, load_dataset
    from motive_fo.dataset.fields import INDEXED, index_fields

    fiftyone()
    parts = Parts(out)
    imports(folder, clips, parts)
    read_videos(folder / "real", parts)
    steps(parts)
    dataset = load_dataset(DATASET)
    looks(dataset, parts, "look")
    sizes(dataset, folder, parts)
    parts.measure("curate, twice the budget", lambda: motive_fo.curate(dataset, RUN, selection={"budget": 0.2}))
    for name in dataset.list_indexes():
        if name in ("motive_id", "tags") or name.startswith(f"{RUN}."):
            dataset.drop_index(name)
    part = "without indexes: curate, half of that"
    parts.measure(part, lambda: motive_fo.curate(dataset, RUN, selection={"budget": 0.1}))
    for name in dataset.list_indexes():
        if name.startswith(f"{RUN}."):
            dataset.drop_index(name)
    looks(dataset, parts, "bare")
    parts.measure("make all indexes of a run", lambda: index_fields(dataset, RUN, INDEXED))


def table(sized: dict[int, list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row for each part, and the goals, from what each size measured."""
    sizes = sorted(sized)
    small, large = sizes[0], sizes[-1]
    found = {size: {(row["part"], row["kind"]): row for row in rows} for size, rows in sized.items()}
    rows = []
    for (part, kind), last in found[large].items():
        if kind.startswith("bare"):
            continue
        of_size = {f"{size:,} clips": found[size][part, kind]["value"] for size in sizes}
        bare = found[large].get((part, kind.replace("look", "bare")), {}) if kind.startswith("look") else {}
        ratio = last["value"] / found[small][part, kind]["value"]
        rows.append(
            {
                "part": part,
                **of_size,
                "ratio": ratio,
                f"{large:,} without indexes": bare.get("value", ""),
                f"peak MiB, {large:,}": last.get("mib", ""),
            }
        )
    ratios = {
        part: row["value"] / found[small][part, kind]["value"] / (large / small)
        for (part, kind), row in found[large].items()
        if kind == "whole" and row["value"] > 1
    }
    slowest = max(row["value"] for row in sized[large] if row["kind"] == "look")
    peak = max(row.get("mib", 0) for row in sized[large])
    worst = max(ratios, key=lambda part: ratios[part], default="none")
    growth = ratios.get(worst, 1.0)
    goals = [
        goal(
            f"no part grows faster than the dataset: time a clip at {large:,} against {small:,}, worst ({worst})",
            f"<= {RATIO}",
            growth,
            growth <= RATIO,
        ),
        goal(f"ours: every filter, order and saved view at {large:,} (seconds)", "< 1", slowest, slowest < FILTER),
        goal(f"ours: memory beyond the process' start at {large:,}, MiB", f"< {MEMORY_MIB}", peak, peak < MEMORY_MIB),
    ]
    return rows, goals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        if given.out:
            measure(given.clips[0], Path(scratch), given.out)
            return
        sized = {}
        for clips in given.clips:
            out = Path(scratch) / f"{clips}.json"
            command = [sys.executable, "-m", "benchmarks.database", "--clips", str(clips), "--out", str(out)]
            subprocess.run(command, check=True)
            sized[clips] = json.loads(out.read_text())
    rows, goals = table(sized)
    write("database", rows, goals, cache_gb=CACHE_GB, load_average=round(load, 1), queries=QUERIES)


if __name__ == "__main__":
    main()
