"""What the demo's selection teaches, measured in the demo itself by a few steps of training.

The embedded model is trained a little on the selected clips, on as many random ones, on as many random sound ones and
on all of them, from the same weights and for as many steps, again and again with other random clips. The losses are
those of queries of other scenes, which neither chose nor were trained on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import load_dataset
from motive_fo.dataset.motion_report import motion_settings, write_file
from motive_fo.dataset.run_record import load_run, measured_folder
from motive_fo.demo import RUN, DemoSize, write_demo_corpus
from motive_fo.errors import InputError
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.progress import Progress, silent
from motive_fo.quality.intervals import Estimate
from motive_fo.quality.suite import said
from motive_fo.quality.trainings import MOTION, Training, compared, falls_of, mean_fall, train_and_measure
from motive_fo.report.plot import intervals
from motive_fo.store.run_store import RunStore

SELECTED: Final = "selected clips"
RANDOM: Final = "random clips"
SOUND: Final = "random sound clips"
EVERY: Final = "all clips"
PLOT: Final = "measured.svg"

_STEPS, _BATCH, _REPEATS = 10, 4, 4  # Choice: what fits into a minute of two cores
_LEVEL: Final = 0.95
_NOISE: Final = 1000  # a seed that no gradient was taken with
_SOUND: Final = "scored"  # what the run says of clips that can be used and in which something moves
_USABLE: Final = (_SOUND, "static")


@dataclass(frozen=True)
class DemoMeasurement:
    """What was measured.

    Attributes:
        queries: that were measured.
        steps, repeats: of each training, and trainings of each set.
        clips: set -> how many clips it holds.
        falls: set -> fall of the motion-weighted loss of the queries, in percent.
        ahead: other set -> fall after the selected clips minus fall after it, in percentage points.
        plot: the file with a plot of it.
        seconds: it took.
    """

    queries: int
    steps: int
    repeats: int
    clips: Mapping[str, int]
    falls: Mapping[str, Estimate]
    ahead: Mapping[str, Estimate]
    plot: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def sentence(self) -> str:
        """What it shows."""
        ahead = self.ahead[RANDOM]
        if ahead.low > 0:
            verdict = "teach more than random clips"
        elif ahead.high < 0:
            verdict = "teach less than random clips"
        else:
            verdict = "are not shown, on so few clips, to teach more or less than random clips"
        others = [f"{said(each)} against {name}" for name, each in self.ahead.items()]
        return (
            f"{self.steps} steps on the {self.clips[SELECTED]} selected clips {verdict}: the motion loss of "
            f"{self.queries} queries of other scenes falls further by, in percentage points, {'; '.join(others)}."
        )


def measure_demo(
    folder: str | Path,
    dataset: str,
    *,
    size: DemoSize | None = None,
    synthetic: bool = True,
    progress: Progress = silent,
) -> DemoMeasurement:
    """Train on the demo's selection and beside it, and measure. The plot goes into the folder.

    Args:
        folder, dataset, size: of ``run_demo``, which has been called.
        synthetic: whether the training clips are the demo's own, of which is known which are sound.

    Raises:
        MotiveError: nothing was selected, or no clip can be used.
    """
    begun = time.perf_counter()
    folder = Path(folder).expanduser().absolute()
    size = size or DemoSize()
    measured = DemoSize(train=0, queries=size.measured, static=0, damaged=0, seed=size.seed + 1)
    write_demo_corpus(folder / "measured", measured, progress)
    sets, records = _sets(dataset, synthetic)
    trainings = planned(sets, size.measured, size.seed)
    used = sorted({place for training in trainings for place in training.clips.tolist()})
    losses = _trained(folder, dataset, {n: records[n] for n in used}, trainings, size.measured, progress)
    falls = falls_of(losses, trainings, size.measured)
    plot = intervals(
        "Learned by a few steps on",
        f"fall of the motion loss of {size.measured} other queries, %",
        {name: (each.value, each.low, each.high) for name, each in _means(falls).items()},
    )
    return DemoMeasurement(
        queries=int(np.isfinite(falls[SELECTED][MOTION]).all(1).sum()),
        steps=_STEPS,
        repeats=_REPEATS,
        clips={name: len(each) for name, each in sets.items()},
        falls=_means(falls),
        ahead={name: compared(falls, SELECTED, name, MOTION, _LEVEL) for name in falls if name != SELECTED},
        plot=str(write_file(folder / PLOT, plot.svg)),
        seconds=time.perf_counter() - begun,
    )


def planned(sets: Mapping[str, Sequence[int]], queries: int, seed: int) -> list[Training]:
    """The trainings: of a set more than the selection in every repeat others, as many, but of all clips as many as the
    steps show."""
    made = []
    for repeat in range(_REPEATS):
        for name, places in sets.items():
            count = _STEPS * _BATCH if name == EVERY else len(sets[SELECTED])
            drawn = np.random.default_rng([seed, 13, repeat]).permutation(len(places))[:count]
            clips = np.asarray(places, np.int64)[np.sort(drawn)]
            made.append(Training(name, "all", repeat, clips, np.arange(queries)))
    return made


def _sets(dataset: str, synthetic: bool) -> tuple[dict[str, list[int]], list[ClipRecord]]:
    """Places of the clips of each set, and the training clips."""
    train = load_dataset(dataset).match_tags("train")
    records = list(records_of(train).records)
    states, selected = train.values([f"{RUN}.status", f"{RUN}.selected"])
    usable = [n for n, state in enumerate(states) if state in _USABLE]
    sets = {
        SELECTED: [n for n, place in enumerate(selected) if place is not None],
        RANDOM: usable,
        SOUND: [n for n, state in enumerate(states) if state == _SOUND],
        EVERY: usable,
    }
    if not sets[SELECTED]:
        raise InputError(f"nothing of dataset {dataset!r} is selected: call the demo again")
    return {name: each for name, each in sets.items() if synthetic or name != SOUND}, records


def _trained(
    folder: Path,
    dataset: str,
    clips: Mapping[int, ClipRecord],
    trainings: Sequence[Training],
    queries: int,
    progress: Progress,
) -> Mapping[str, Any]:
    """Losses after each training."""
    from motive_fo.models.registry import load_model
    from motive_fo.pipeline.sketching import settled_threads
    from motive_fo.quality.clip_trainings import ClipTrainings, measured_timesteps, trial_config
    from motive_fo.quality.examples import examples
    from motive_fo.training.repeated import RepeatedTraining
    from motive_fo.training.settings import FinetuneConfig

    record = load_run(load_dataset(dataset), RUN)
    how, scored = motion_settings(record), record.section("attribution").timesteps
    model = load_model("tiny", "cpu")
    config = trial_config(model, scored, FinetuneConfig(steps=_STEPS, batch=_BATCH, device="cpu"))
    made = ClipTrainings(RepeatedTraining("tiny", model, config), config, measured_timesteps(config, scored), (_NOISE,))
    scratch = folder / "store" / "unused"  # the embedded model encodes whenever it is asked
    with settled_threads(model):
        table = RunStore(record.store).table("motion")
        for place, (_, example) in zip(
            clips, examples(list(clips.values()), model, how, table, kept=None, scratch=scratch), strict=True
        ):
            if not isinstance(example, Exception):
                made.clips[place] = (clips[place], example)
        held, table = _held_out(folder, how, progress)
        for place, (_, example) in enumerate(examples(held, model, how, table, kept=None, scratch=scratch)):
            if not isinstance(example, Exception) and example.mask_Fhw is not None:
                made.queries[place] = example
        return train_and_measure(trainings, queries, model, made.train, made.losses, progress=progress)


def _held_out(folder: Path, how: MotionSettings, progress: Progress) -> tuple[list[ClipRecord], Any]:
    """The queries that are measured, and the table of their motion."""
    from motive_fo.dataset.sources import named_clips

    records = list(named_clips(folder / "measured" / "queries").records)
    with RunStore(folder / "store" / "measured.zarr", write=True) as store:
        compute_motion_table(records, store, how, known=measured_folder(), progress=progress)
        return records, store.table("motion")


def _means(falls: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: mean_fall(fall[MOTION], _LEVEL) for name, fall in falls.items()}
