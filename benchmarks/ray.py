"""The engine ray against this machine's own processes, on the same cores: python -m benchmarks.ray

Every way computes the gradient step of a few clips and of many, each time into a new store; its cost per clip is the
difference, so that starting processes and loading models is left out (and told apart). Ways take turns within a round
and are compared within it: ratios stand where a shared machine's times do not. Processor time is that of all processes
below this one, Ray's own included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.record import goal, write
from motive_fo.config import AttributionConfig, ClipConfig, EngineConfig, FlowConfig, MotionConfig
from motive_fo.models.registry import attributed_model, model_card
from motive_fo.pipeline.crew import Crew, open_crew
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus

_TICKS = os.sysconf("SC_CLK_TCK")
_NUMBER = count()


@dataclass(frozen=True)
class Cost:
    wall: float
    processor: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.processor - other.processor)


def processor_seconds() -> float:
    """Processor time of this process and all below it, those that ended included."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = place.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        pid = int(place.parent.name)
        parents[pid], ticks[pid] = int(words[1]), sum(map(int, words[11:15]))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks.get(pid, 0) for pid in ours) / _TICKS


class Step:
    """The gradient step on some clips, in one way."""

    def __init__(self, folder: Path, settings: GradientSettings, crew: Crew | None, *, gradients: bool = True) -> None:
        self.folder, self.settings, self.crew, self.gradients = folder, settings, crew, gradients

    def cost(self, records: list[ClipRecord]) -> Cost:
        path = self.folder / f"{next(_NUMBER)}.zarr"
        start, spent = time.perf_counter(), processor_seconds()
        with RunStore(path, write=True) as store:
            if self.gradients:
                report = compute_sketch_table(records, store, self.settings, "train", crew=self.crew)
            else:
                report = compute_motion_table(records, store, self.settings.motion, crew=self.crew)
        if report.status["failed"]:
            raise SystemExit(f"clips failed: {report.codes}")
        return Cost(time.perf_counter() - start, processor_seconds() - spent)

    def per_clip(self, records: list[ClipRecord], few: int) -> Cost:
        little, much = self.cost(records[:few]), self.cost(records)
        more = much - little
        return Cost(more.wall / (len(records) - few), more.processor / (len(records) - few))


@contextmanager
def crew_of(workers: int, settings: GradientSettings) -> Iterator[Crew]:
    engine = EngineConfig(engine="ray", address="local", workers=workers)
    with open_crew(engine, settings.motion, settings.attribution) as crew:
        assert crew is not None
        yield crew


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        corpus = write_corpus(folder / "corpus", train=options.clips, queries=1)
        records = [ClipRecord(p.name, p, f"clip {n}") for n, p in enumerate(corpus.train)]
        motion = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), model_card("tiny"))
        attribution = AttributionConfig(device="cpu")
        one = GradientSettings.build(motion, attribution, attributed_model(attribution, motion.spec))
        two = replace(one, attribution=replace(attribution, devices=("cpu", "cpu")))
        measured = rounds(folder, records, options, one, two)
    report(measured, options)


def rounds(
    folder: Path, records: list[ClipRecord], options: Any, one: GradientSettings, two: GradientSettings
) -> dict[str, list[Cost]]:
    """Costs of each way, one for each round; ``start`` is the time to Ray's first two answers."""
    measured: dict[str, list[Cost]] = {}

    def note(name: str, cost: Cost) -> None:
        measured.setdefault(name, []).append(cost)
        print(f"{name}: {cost.wall * 1e3:.1f} ms wall, {cost.processor * 1e3:.1f} ms processor", flush=True)

    for _ in range(options.rounds):
        for name, settings in (("one process", one), ("two replicas", two)):
            note(name, Step(folder, settings, None).per_clip(records, options.few))
        note("motion, one process", Step(folder, one, None, gradients=False).per_clip(records, options.few))
        for name, workers in (("ray, 1 worker", 1), ("ray, 2 workers", 2)):
            start = time.perf_counter()
            with crew_of(workers, one) as crew:
                Step(folder, one, crew).cost(records[:2])
                note(f"start of {name}", Cost(time.perf_counter() - start, 0.0))
                note(name, Step(folder, one, crew).per_clip(records, options.few))
                if workers == 1:
                    step = Step(folder, one, crew, gradients=False)
                    note(f"motion, {name}", step.per_clip(records, options.few))
    return measured


def report(measured: dict[str, list[Cost]], options: Any) -> None:
    """Medians, and ratios within rounds."""
    middle = statistics.median

    def ratio(name: str, base: str, what: str) -> float:
        pairs = zip(measured[name], measured[base], strict=True)
        return middle(getattr(cost, what) / getattr(against, what) for cost, against in pairs)

    against = {
        "one process": "one process",
        "ray, 1 worker": "one process",
        "two replicas": "two replicas",
        "ray, 2 workers": "two replicas",
        "motion, one process": "motion, one process",
        "motion, ray, 1 worker": "motion, one process",
    }
    rows = []
    for name, base in against.items():
        first = name if name.startswith("motion") else "one process"
        rows.append(
            {
                "way": name if name.startswith("motion") else f"gradients, {name}",
                "ms per clip": middle(c.wall for c in measured[name]) * 1e3,
                "processor ms per clip": middle(c.processor for c in measured[name]) * 1e3,
                "against": base,
                "wall ratio": ratio(name, base, "wall"),
                "processor ratio": ratio(name, base, "processor"),
                "speed-up over one process": "" if first == name else ratio(first, name, "wall"),
            }
        )
    starts = {name.removeprefix("start of "): [c.wall for c in m] for name, m in measured.items() if "start" in name}
    goals = []
    for name, base in (("ray, 1 worker", "one process"), ("ray, 2 workers", "two replicas")):
        for what, said in (("wall", "wall time"), ("processor", "processor time")):
            value = ratio(name, base, what)
            goals.append(goal(f"gradients, {name} against {base}: {said}", "<= 1.1", value, value <= 1.1))
    more = {name: round(middle(walls), 1) for name, walls in starts.items()}
    write("ray", rows, goals, start_seconds=more, clips=options.clips, rounds=options.rounds)
    print(f"seconds to the first answers, once for a step: {more}")


if __name__ == "__main__":
    main()
