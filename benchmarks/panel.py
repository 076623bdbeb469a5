"""Seconds and bytes of every interaction with the App's panels, without a browser: python -m benchmarks.panel

The dataset, its database and the run's store are real; clips have no videos and scores are random. Each event goes
through FiftyOne's executor as the App's server does it; bytes are those of the messages it would send.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mongod import start_database
from benchmarks.record import goal, write

DATASET, RUN, PLUGIN = "panel-benchmark", "motive", "@motive-fo/motive"
GROUPS = ("compress", "bounce", "roll", "explode", "float", "free fall", "slide", "spin", "stretch", "swing")


def make_run(clips: int, queries: int, seed: int = 0) -> Any:
    """A dataset with a scored and curated run; scores and motion are random, nothing is decoded."""
    import fiftyone as fo

    import motive_fo
    from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
    from motive_fo.dataset.choose import records_of
    from motive_fo.dataset.fields import write_fields, write_motion, write_states
    from motive_fo.dataset.steps import open_step
    from motive_fo.influence.selection import percentile_ranks
    from motive_fo.models.registry import model_card
    from motive_fo.pipeline.motion import MotionSettings, open_motion
    from motive_fo.pipeline.report import StepReport
    from motive_fo.store.table import Row, Status

    rng = np.random.default_rng(seed)
    dataset = fo.Dataset(DATASET, persistent=True, overwrite=True)
    dataset.add_sample_field("motive_id", fo.StringField)
    dataset.add_sample_field("caption", fo.StringField)
    dataset.add_sample_field("motive_group", fo.StringField)

    def samples() -> Iterator[Any]:  # none is kept: FiftyOne reloads every sample object alive at each write
        for n in range(clips + queries):
            query = n >= clips
            name = f"{'wanted' if query else 'clips'}/{n:06d}.mp4"
            yield fo.Sample(
                f"/nowhere/{name}",
                tags=["query" if query else "train"],
                motive_id=name,
                caption="a ball rolls over grass",
                motive_group=GROUPS[n % len(GROUPS)] if query else None,
                metadata=fo.VideoMetadata(
                    frame_width=256, frame_height=256, frame_rate=16, total_frame_count=48, duration=3
                ),
            )

    dataset.add_samples(samples(), progress=False, num_samples=clips + queries)
    chosen = records_of(dataset)
    train = [i for i in chosen.ids if i.startswith("clips/")]
    query = [i for i in chosen.ids if i.startswith("wanted/")]
    cosines = rng.normal(0, 0.1, (queries, clips)) + rng.normal(0, 0.05, clips)
    scores_QN = np.asarray(np.clip(cosines, -1, 1), np.float32)
    settings = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), model_card("tiny"))
    with open_step(dataset, RUN, None) as (record, store):
        first = set(train[: clips // 2])
        table = open_motion(store, settings, StepReport("motion"))
        table.register(chosen.ids)
        for clip_id in chosen.ids:
            mean, static = float(rng.gamma(2, 0.5)), bool(rng.random() < 0.05) and clip_id in first
            values = {
                "mean": 0.01 if static else mean,
                "p95": mean * 3,
                "peak": mean * 5,
                "camera_share": float(rng.beta(0.5, 1)),
                "moving_share": float(rng.beta(1, 2)),
                "smoothness": float(rng.beta(2, 1)),
                "dynamic_score": mean,
                "hoof": rng.random(settings.motion.hoof_bins, np.float32),
                "curve": rng.gamma(2, 0.5, settings.spec.frames).astype(np.float32),
            }
            table.put(Row(clip_id, Status.STATIC if static else Status.DONE, values=values))
        table.flush()
        store.write_scores({"motion": scores_QN, "whole": scores_QN[:, ::-1].copy()}, train, query, {})
        write_motion(dataset, RUN, chosen, table)
        write_states(dataset, RUN, chosen, store)
        ranks = percentile_ranks(scores_QN).mean(0)
        sample_ids = [chosen.sample_ids[i] for i in train]
        write_fields(dataset, RUN, sample_ids, {"influence": ranks})
        record.steps["influence"] = {"clips": clips}
    motive_fo.curate(dataset, RUN)
    return dataset


class Browser:
    """Sends events as the App does and keeps the panel's state; measures each."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.states: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []

    def send(
        self, what: str, event: str, panel: str = "motion_influence", sample: str | None = None, **given: Any
    ) -> None:
        """One event. The slowest and largest of the same name is kept."""
        import fiftyone.operators as foo

        state = self.states.setdefault(panel, {})
        request: dict[str, Any] = {"dataset": self.dataset, "current_sample": sample}
        request["params"] = {"panel_id": panel, "__method__": event, "panel_state": state, **given}
        start = time.perf_counter()
        result = foo.execute_operator(f"{PLUGIN}/{panel}", request)
        size = len(json.dumps(result.to_json()))
        seconds = time.perf_counter() - start
        assert result.error is None, result.error
        assert not state.get("problem"), state["problem"]
        row = next((row for row in self.rows if row["interaction"] == what), None)
        if row is None:
            self.rows.append({"interaction": what, "times": 1, "slowest, s": seconds, "largest, kB": size / 1e3})
        else:
            row["times"] += 1
            row["slowest, s"] = max(row["slowest, s"], seconds)
            row["largest, kB"] = max(row["largest, kB"], size / 1e3)


def measure(dataset: Any) -> list[dict[str, Any]]:
    """Every interaction of both panels."""
    from motive_fo.dataset.exploration import forget

    browser = Browser(dataset)
    state = browser.states.setdefault("motion_influence", {})
    browser.send("first", "on_load")  # loads the plugin itself, as the App does when it starts
    browser.rows.clear()
    for _ in range(3):
        forget()
        dataset.clear_cache()
        browser.send("open the panel, nothing read yet", "on_load")
    browser.send("open the panel again", "on_load")
    queries = dataset.match_tags("query").values("motive_id")
    for value in [*(f"group:{group}" for group in GROUPS[:3]), *queries[:3], "all"]:
        browser.send("choose queries", "change_focus", value=value)
    for value in (1, 5, 12.5, 20, 50, 100):
        browser.send("move the budget", "change_budget", value=value)
    browser.send("votes of their own", "change_follow", value=False)
    for value in (99, 95, 80, 50):
        browser.send("move the vote percentile", "change_percentile", value=value)
    browser.send("move the budget", "change_budget", value=100)
    browser.send("show all 10,000 selected", "show")
    browser.send("move the budget", "change_budget", value=10)
    browser.send("show the selection", "show")
    ids = dataset.match_tags("train").values("id")
    browser.send("lasso 4,000 points", "lasso", data=[{"id": i, "x": 1.0, "y": 2.0} for i in ids[:4000]])
    browser.send("click a point", "open_point", id=ids[7])
    for row in range(5):
        browser.send("click a row of a table", "open_helping", row=row)
    state["name"] = "looked at"
    browser.send("save as view", "save")
    for sample in ids[:10]:
        browser.send("training clip in the modal", "on_change_current_sample", "clip_motion", sample)
    for sample in dataset.match_tags("query").values("id")[:10]:
        browser.send("query in the modal", "on_change_current_sample", "clip_motion", sample)
    browser.send("click a cell in the modal", "open_cell", "clip_motion", ids[0], row=0, column=0)
    browser.send("make it the run's selection (writes)", "curate")
    return browser.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start_database(folder)
        from motive_fo.dataset.plugin import install_plugin

        install_plugin()
        # in a process of its own: the App's server did not make the samples either, and carries none in memory
        code = f"from benchmarks.panel import make_run; make_run({args.clips}, {args.queries})"
        subprocess.run([sys.executable, "-c", code], check=True)
        import fiftyone as fo
        import fiftyone.core.odm as foo

        rows = measure(fo.load_dataset(DATASET))

        statistics = foo.get_db_conn().command("dbstats")
        store = sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())
        foo.drop_database()
    looks = [row for row in rows if "writes" not in row["interaction"]]
    slowest, largest = (max(row[name] for row in looks) for name in ("slowest, s", "largest, kB"))
    writing = max(row["slowest, s"] for row in rows if row not in looks)
    run = f"{args.clips} clips x {args.queries} queries"
    goals = [
        goal(f"every interaction that only looks, {run} (seconds)", "< 1", slowest, slowest < 1),
        goal(f"bytes to the browser in one event, {run} (kB)", "< 1000", largest, largest < 1000),
        goal(
            f"making a preview the selection (writes six fields of every clip, and views), {run} (seconds)",
            "< 1",
            writing,
            writing < 1,
        ),
    ]
    sizes = {"database_mb": round(statistics["dataSize"] / 1e6, 1), "store_mb": round(store / 1e6, 1)}
    scores = 4 * args.clips * args.queries * 2 / 1e6
    write("panel", rows, goals, clips=args.clips, queries=args.queries, **sizes, scores_mb=scores)


if __name__ == "__main__":
    main()
