"""A trial of a run's ranking on its own model and clips (``quality.trial``); every training is kept in its record.

Shapes: Q queries to follow, N clips; a leading 2 is [MOTION, ORDINARY].
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Container, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.config import SelectionConfig
from motive_fo.dataset.curation import ScoredClips
from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.patch_steps import fresh_noises, told
from motive_fo.dataset.run_record import RunRecord, encodings_folder, save_run
from motive_fo.errors import ConfigError, InputError
from motive_fo.influence.curation import Candidates, select
from motive_fo.pipeline.record import ClipRecord, version_of
from motive_fo.progress import Progress
from motive_fo.quality.settings import AttributionQualityConfig
from motive_fo.quality.trainings import BASE, Floats, falls_of, train_and_measure
from motive_fo.quality.trial import FEWEST, TrialDesign, TrialPlan, TrialQuality, judged, plan_trial
from motive_fo.store.run_store import RunStore

if TYPE_CHECKING:
    from motive_fo.models.base import VideoModel
    from motive_fo.quality.clip_trainings import ClipTrainings

STEP: Final = "trial"
"""Where a run's record keeps the trainings that were done."""
_ENCODED: Final = "clips of the trial"
_MATTERS: Final = ("trial_steps", "repeats", "batch", "learning_rate", "lora", "seed", "draws")


@dataclass(frozen=True)
class TrialCost:
    """What a trial takes.

    Attributes:
        trainings, steps, batch: trainings, steps of each, clips of a step.
        clips: to encode, queries too.
        losses: of queries, each the mean over several timesteps and noises.
        done: trainings that were done before.
        seconds: of what is left, from one step, one loss and a few clips just now.
    """

    trainings: int
    steps: int
    batch: int
    clips: int
    losses: int
    done: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass
class Trial:
    """A trial of one run.

    Attributes:
        dataset, record, store: the run.
        clips, queries: records by place: scored clips, and queries to follow.
        kinds: of the queries; empty for none.
        settings: of the check.
        progress: of encoding and trainings.
        failed: clip or query id -> why it could not take part.
    """

    dataset: Any
    record: RunRecord
    store: RunStore
    clips: Sequence[ClipRecord]
    queries: Sequence[ClipRecord]
    kinds: Sequence[str | None]
    settings: AttributionQualityConfig
    progress: Progress
    failed: dict[str, str] = field(default_factory=dict)

    def quality(self) -> TrialQuality:
        """Do the trainings that were not done before, and judge.

        Raises:
            MotiveError: too few queries, or a model that cannot be trained here.
        """
        plan = self.plan()
        key, known = self._kept(plan)
        if any(training.key not in known for training in plan.trainings):
            self._train(plan, key, known)
        measured = sum(np.isfinite(known[BASE][0]))
        if measured < 2 * FEWEST:
            first = next(iter(self.failed.items()))
            raise InputError(f"{measured} queries can be measured, {2 * FEWEST} are needed: {first[0]} ({first[1]})")
        return judged(plan, falls_of(known, plan.trainings, len(self.queries)), self._design())

    def cost(self) -> TrialCost:
        """What the trial will take; nothing is written."""
        plan = self.plan()
        _, known = self._kept(plan)
        left = [training for training in plan.trainings if training.key not in known]
        every = {(each.repeat, each.clips.tobytes()) for each in left}
        clips = self._shown(plan)
        losses = sum(len(training.queries) for training in left)
        seconds = self._timed(plan, clips, len(every), losses) if left else 0.0
        return TrialCost(
            trainings=len({(each.repeat, each.clips.tobytes()) for each in plan.trainings}),
            steps=self.settings.trial_steps,
            batch=plan.batch,
            clips=len(clips) + len(self.queries) if left else 0,
            losses=losses,
            done=len(plan.trainings) - len(left),
            seconds=seconds,
        )

    def plan(self) -> TrialPlan:
        """Which trainings, from the run's own settings of selection.

        Raises:
            InputError: there are too few queries to follow.
        """
        if len(self.queries) < 2 * FEWEST:
            raise InputError(
                f"{len(self.queries)} scored queries to follow are too few for a trial: {2 * FEWEST} or more are "
                f"needed, so that {FEWEST} choose and {FEWEST} others are measured (motive queries add)"
            )
        config: SelectionConfig = self.record.section("selection")
        candidates = ScoredClips.read(self.dataset, self.record, self.store).candidates(config)
        place = {clip.id: n for n, clip in enumerate(self.clips)}

        def choose(some_Q: Sequence[int]) -> Sequence[int]:
            made = select(_some(candidates, {self.queries[q].id for q in some_Q}, place), config)
            return [place[clip_id] for clip_id in made.chosen.ids]

        try:
            return plan_trial(len(self.queries), len(self.clips), choose, self._design(), self.kinds)
        except ValueError as error:
            raise InputError(str(error)) from None

    def _design(self) -> TrialDesign:
        settings = self.settings
        return TrialDesign(
            share=self.record.section("selection").budget,
            steps=settings.trial_steps,
            batch=settings.batch,
            repeats=settings.repeats,
            seed=settings.seed,
            level=settings.confidence,
        )

    # -- what was done before -----------------------------------------------------------------------------------------

    def _kept(self, plan: TrialPlan) -> tuple[str, dict[str, Floats]]:
        """Digest of all that the losses depend on, and those of it that are known."""
        facts = {
            "sketches": self.store.sketches("query").identity,
            "settings": {name: getattr(self.settings, name) for name in _MATTERS},
            "queries": [_content(query) for query in self.queries],
            "clips": {place: _content(self.clips[place]) for place in self._shown(plan)},
            "trainings": [[each.key, each.clips.tolist(), each.queries.tolist()] for each in plan.trainings],
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:40]
        kept = self.record.steps.get(STEP, {})
        if kept.get("key") != key:
            return key, {}
        self.failed.update(kept["failed"])
        return key, {name: np.asarray(loss, np.float64) for name, loss in kept["losses"].items()}

    def _keep(self, key: str, known: Mapping[str, Floats]) -> None:
        self.record.steps[STEP] = {
            "clips": len(known) - 1,
            "key": key,
            "failed": self.failed,
            "losses": {name: loss.tolist() for name, loss in known.items()},
        }
        save_run(self.dataset, self.record)

    # -- model and examples -------------------------------------------------------------------------------------------

    def _train(self, plan: TrialPlan, key: str, known: dict[str, Floats]) -> None:
        from motive_fo.pipeline.sketching import settled_threads

        trainings = self._encoded(self._shown(plan), range(len(self.queries)), plan.batch)
        model = trainings.training.model
        missing = set(range(len(self.queries))) - set(trainings.queries)

        def losses(trained: VideoModel, queries: npt.NDArray[np.int64]) -> Floats:
            loss_2K = np.full((2, len(queries)), np.nan)
            there_K = np.asarray([q not in missing for q in queries.tolist()])
            loss_2K[:, there_K] = _finite(trainings.losses(trained, queries[there_K]))
            return loss_2K

        with settled_threads(model):
            train_and_measure(
                plan.trainings,
                len(self.queries),
                model,
                trainings.train,
                losses,
                known=known,
                keep=lambda: self._keep(key, known),
                progress=self.progress,
            )

    def _encoded(self, clips: Sequence[int], queries: Sequence[int], batch: int) -> ClipTrainings:
        """The model, with what it is trained on and measured with. Nothing of it is kept but encodings, as in a run."""
        from motive_fo.models.registry import attributed_model
        from motive_fo.quality.clip_trainings import (
            ClipTrainings,
            in_memory,
            measured_timesteps,
            trial_config,
            trial_rate,
        )
        from motive_fo.quality.examples import examples
        from motive_fo.training.loop import require_trainable
        from motive_fo.training.repeated import RepeatedTraining
        from motive_fo.training.settings import FinetuneConfig

        attribution, settings = self.record.section("attribution"), self.settings
        if attribution.offload == "on":
            raise ConfigError("the run's network is offloaded, and training needs all of it on the device")
        how = motion_settings(self.record)
        loaded = attributed_model(replace(attribution, offload="off"), how.spec)
        given = FinetuneConfig(
            steps=settings.trial_steps,
            batch=batch,
            learning_rate=settings.learning_rate or trial_rate(loaded),
            lora=settings.lora,
            seed=settings.seed,
            precision=attribution.precision,
            checkpointing=attribution.checkpointing,
            device=str(loaded.device),
        )
        require_trainable(attribution.model, loaded, given)
        config = trial_config(loaded, attribution.timesteps, given)
        records = [*(self.queries[q] for q in queries), *(self.clips[n] for n in clips)]
        made = examples(
            records,
            loaded,
            how,
            self.store.table("motion"),
            kept=encodings_folder() if attribution.keep_encodings else None,
            scratch=self.store.place.beside(".encodings"),
            progress=self.progress,
        )
        taken: dict[int, tuple[ClipRecord, Any]] = {}
        self.progress(_ENCODED, 0, len(records))
        with closing(made):
            for n, (record, example) in enumerate(made):
                if isinstance(example, Exception):
                    self.failed[record.id] = told(example)
                else:
                    taken[n] = (record, in_memory(example))
                self.progress(_ENCODED, n + 1, len(records))
        if not any(n >= len(queries) for n in taken):
            first = next(iter(self.failed.items()))
            raise InputError(f"none of the clips can be trained on: {first[0]} ({first[1]})")
        used = {sample.timestep for sample in self.store.sketches("query").stored}
        return ClipTrainings(
            RepeatedTraining(attribution.model, loaded, config),
            config,
            measured_timesteps(config, sorted(used)),
            fresh_noises(self.store, settings.draws),
            {clips[n - len(queries)]: each for n, each in taken.items() if n >= len(queries)},
            {queries[n]: each[1] for n, each in taken.items() if n < len(queries)},
        )

    def _shown(self, plan: TrialPlan) -> list[int]:
        """Clips that a training shows."""
        return sorted({place for training in plan.trainings for place in training.clips.tolist()})

    def _timed(self, plan: TrialPlan, clips: Sequence[int], trainings: int, losses: int) -> float:
        """Seconds of the rest, from a step, a loss and a few clips."""
        from motive_fo.pipeline.sketching import settled_threads

        few = plan.trainings[0].clips[: plan.batch]
        begun = time.perf_counter()
        made = self._encoded(few.tolist(), [0], plan.batch)
        encoding = (time.perf_counter() - begun) / (len(few) + 1)
        query = np.zeros(1, np.int64)
        with settled_threads(made.training.model):
            made.losses(made.train(few, 0, 1), query)  # the first is slower
            begun = time.perf_counter()
            model = made.train(few, 0, 1)
            stepped = time.perf_counter()
            made.losses(model, query)
            measured = time.perf_counter()
        each = (stepped - begun) * self.settings.trial_steps * trainings + (measured - stepped) * losses
        return each + encoding * (len(clips) + len(self.queries))


def _some(candidates: Candidates, followed: Set[str], clips: Container[str]) -> Candidates:
    """Some of the candidates, under some of the queries to follow and all of those to avoid."""
    some_Q = [
        q
        for q, (name, avoid) in enumerate(zip(candidates.queries, candidates.avoid_Q.tolist(), strict=True))
        if avoid or name in followed
    ]
    some_N = [n for n, clip_id in enumerate(candidates.ids) if clip_id in clips]
    return replace(
        candidates,
        scores_QN=np.stack([np.asarray(candidates.scores_QN[q])[some_N] for q in some_Q]),
        ids=[candidates.ids[n] for n in some_N],
        queries=[candidates.queries[q] for q in some_Q],
        avoid_Q=candidates.avoid_Q[some_Q],
        without=(),
    )


def _content(record: ClipRecord) -> list[str]:
    return [record.id, version_of(record, with_caption=True).content]


def _finite(loss_2K: Floats) -> Floats:
    if not np.isfinite(loss_2K).all():
        raise InputError("the loss of a query is not finite: choose a smaller learning rate, or compute in float32")
    return loss_2K
