"""The scoring step: cosines of all training clips with all queries, from the store alone.

Sketches are read in blocks, multiplied on all cores and written to the store as they come, so that memory does not grow
with clips x queries. Two settings compare each clip with all others and hold the cosines of all (``LARGEST``): the
combinations ``mean-rank`` and ``mean-zscore``, and ``overlap`` ``remove``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.config import InfluenceConfig, plain
from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.checkpoints import weighted_mean
from motive_fo.influence.cosine import RELATIVE, SIDES, Scorer, sample_cosines
from motive_fo.influence.doubt import scores_and_without
from motive_fo.influence.leakage import mask_overlap, without_overlap
from motive_fo.pipeline.refusals import ScoreSpread
from motive_fo.pipeline.report import StepReport
from motive_fo.pipeline.scorable import Scorable, listing, open_all
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import RunStore
from motive_fo.store.scores import ScoreRows, without
from motive_fo.store.sketches import Sample
from motive_fo.store.table import Status, Table

_HELD = 1 << 24  # a scoring of so many cosines stays in memory too: 64 MiB for each kind
#: cosines that are held at once for settings that compare each clip with all others: 512 MiB for each kind.
LARGEST: Final = 1 << 27

#: kinds of scores in the store.
KINDS: Final = ("motion", "whole")


@dataclass(frozen=True)
class Scores:
    """Influence of N training clips on Q queries, query by query; ``read`` for all at once.

    Attributes:
        motion: with the motion mask on the sides the settings name; NaN for clips without a score.
        whole: without any mask: the influence of the whole clip.
        without: ``motion`` without each of the samples in turn, for ``influence.doubt``; empty where there is one.
        refused: queries that cannot be used, with the reason's code.
        samples: the timesteps and noises that were combined.
    """

    motion: ScoreRows
    whole: ScoreRows
    without: list[ScoreRows]
    refused: dict[str, str]
    samples: list[Sample]

    @property
    def train_ids(self) -> list[str]:
        """The training clips, in the axis' order."""
        return self.motion.train_ids

    @property
    def query_ids(self) -> list[str]:
        """The queries, in the axis' order."""
        return self.motion.query_ids

    @property
    def motion_QN(self) -> npt.NDArray[np.float32]:
        """``motion`` as one array."""
        return self.motion.read()

    @property
    def whole_QN(self) -> npt.NDArray[np.float32]:
        """``whole`` as one array."""
        return self.whole.read()


@dataclass(frozen=True)
class SampleScores:
    """Influence of N training clips on Q queries by each of S samples (timestep and noise) alone.

    Attributes:
        scores_SQN: cosines with the motion mask on the sides the settings name; NaN for clips without a score.
        samples, query_ids, train_ids: the axes.
    """

    scores_SQN: npt.NDArray[np.float32]
    samples: list[Sample]
    query_ids: list[str]
    train_ids: list[str]


def score(
    train: Sequence[str],
    queries: Sequence[str],
    store: RunStore,
    config: InfluenceConfig,
    *,
    others: Mapping[str, RunStore] | None = None,
    progress: Progress = silent,
) -> tuple[Scores, StepReport]:
    """Score training clips against queries and keep the cosines in the store.

    A query that failed or is static is left out and reported: it shows no motion to look for.

    Args:
        others: the runs that ``config.checkpoints`` names -> their stores, opened for reading.

    Raises:
        StoreError: the clips have no sketches yet, no query can be used, too few clips for ``config.center``, or the
            clips of a checkpoint are not those of the run.
        StoreMismatchError: a checkpoint's sketches were computed with other settings.
        ConfigError: sketches are too long for ``config.kernel``, or ``config.checkpoints`` cannot be used.
    """
    report = StepReport("influence", clips=len(train))
    with report.timed("total"):
        opened = open_all(train, queries, store, config, others or {})
        alike, unscored = _write_scores(opened, train, store, config, progress)
        while alike:
            opened = [(weight, one.without(alike)) for weight, one in opened]
            alike, unscored = _write_scores(opened, train, store, config, progress)
        first = opened[0][1]
        report.computed = len(train)
        report.status.update(first.counts)
        if unscored:
            report.status.update(done=-len(unscored), unscored=len(unscored))
            report.notes.append(
                f"{len(unscored)} clips are done and have no score ({', '.join(unscored[:5])}): their sketches hold no "
                "finite numbers. Mark them as not computed (motive store verify STORE --repair), then run the gradient "
                "step and this one again"
            )
        if first.refused:
            report.notes.append(f"{len(first.refused)} of {len(queries)} queries left out: {listing(first.refused)}")
        axes = ScoreRows(first.queries, list(train), None)  # known: a million ids need not be read back
        motion, whole = store.scores("motion", axes=axes), store.scores("whole", axes=axes)
        if math.prod(motion.shape) <= _HELD:
            motion, whole = motion.held(), whole.held()
    return Scores(motion, whole, store.scores_without(axes=axes), first.refused, first.train.samples), report


def _write_scores(
    opened: Sequence[tuple[float, Scorable]],
    train: Sequence[str],
    store: RunStore,
    config: InfluenceConfig,
    progress: Progress,
) -> tuple[list[str], list[str]]:
    """Score and keep it.

    Returns:
        queries whose scores are all alike: they are to be left out, and the rest kept again; and clips that are done by
        their status and have no score.

    Raises:
        StoreError: the scores of every query are alike; nothing was kept.
    """
    first = opened[0][1]
    settings: dict[str, Any] = {
        **plain(config),
        "refused": first.refused,
        "samples": [list(sample) for sample in first.train.samples],
    }
    spread = ScoreSpread(len(first.queries))
    progress("influence", 0, len(train))
    samples = len(first.train.samples)
    kinds = [*KINDS, *(without(s) for s in range(samples if samples > 1 else 0))]
    done_N = np.logical_and.reduce([one.train.states(train) == Status.DONE for _, one in opened])
    unscored: list[str] = []
    with store.begin_scores(kinds, train, first.queries, settings) as writer:
        for done, arrays in _score_blocks(opened, train, store, config):
            block = dict(zip(kinds, arrays, strict=True))
            writer.put(block)
            spread.add(block["motion"])
            known_QB = np.isfinite(block["motion"])
            columns = slice(done - known_QB.shape[1], done)
            lacking = np.flatnonzero(done_N[columns] & ~known_QB.all(0)) + columns.start
            unscored += [train[n] for n in lacking.tolist()]
            progress("influence", done, len(train))
        alike = [query for query, same in zip(first.queries, spread.alike_Q, strict=True) if same]
        if alike and len(alike) == len(first.queries):
            raise StoreError(
                f"all training clips have the same score for every query ({len(alike)}): such scores rank nothing and "
                "were not kept. Look at the gradients (motive doctor --dataset NAME --run RUN)"
            )
    return alike, unscored


def sample_scores(
    train: Sequence[str],
    queries: Sequence[str],
    store: RunStore,
    config: InfluenceConfig,
    *,
    others: Mapping[str, RunStore] | None = None,
) -> SampleScores:
    """The same cosines for each timestep and noise by itself, from the stored sketches; nothing is written.

    For ``influence.stability``. ``config.combine`` plays no part; all else is as in ``score``. Arguments and errors as
    for ``score``.
    """
    opened = open_all(train, queries, store, config, others or {})
    first = opened[0][1]
    side = SIDES[config.mask_side]
    parts = []
    for _, one in opened:
        scores_SQN = np.empty((len(one.train.samples), len(one.queries), len(train)), np.float32)
        (preconditioner,) = one.preconditioners(train, [side], config, "mean-cosine")
        for columns, query_QS2D, train_BS2D in one.blocks(train):
            pair = preconditioner.pair(query_QS2D[:, :, side[0]], train_BS2D[:, :, side[1]])
            scores_SQN[:, :, columns] = sample_cosines(*pair)
        parts.append(scores_SQN)
    scores_SQN = weighted_mean(parts, [weight for weight, _ in opened])
    if config.overlap == "remove":
        overlap_QN = _overlap(store, first.queries, train)
        scores_SQN = np.stack([without_overlap(scores_QN, overlap_QN) for scores_QN in scores_SQN])
    return SampleScores(scores_SQN, first.train.samples, first.queries, list(train))


def _score_blocks(
    opened: Sequence[tuple[float, Scorable]], train: Sequence[str], store: RunStore, config: InfluenceConfig
) -> Iterator[tuple[int, list[npt.NDArray[np.float32]]]]:
    """Influence of the training clips in order, by blocks: clips so far, and (Q, B) of the motion, of the whole clip,
    and of the motion without each sample in turn, unknown where the motion's is."""
    weights = [weight for weight, _ in opened]
    if config.combine not in RELATIVE and config.overlap == "keep":
        for parts in zip(*(_absolute_blocks(one, train, config) for _, one in opened), strict=True):
            mean = [weighted_mean(each, weights) for each in zip(*(p for _, p in parts), strict=True)]
            yield parts[0][0], _where_known(mean)
        return
    first = opened[0][1]
    _require_room(len(first.train.samples), len(first.queries), len(train), config)
    each = [_at_once(one, train, config) for _, one in opened]
    motion_QN, whole_QN, *without_SQN = (weighted_mean(part, weights) for part in zip(*each, strict=True))
    if config.overlap == "remove":
        overlap_QN = _overlap(store, first.queries, train)
        motion_QN, *without_SQN = (without_overlap(part, overlap_QN) for part in (motion_QN, *without_SQN))
    yield len(train), _where_known([motion_QN, whole_QN, *without_SQN])


def _where_known(kinds: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
    """A clip that lacks the sketch of a sample has no score, also without that sample: all rank the same clips."""
    motion, whole, *without_S = kinds
    return [motion, whole, *(np.where(np.isnan(motion), np.float32(np.nan), each) for each in without_S)]


def _require_room(samples: int, queries: int, clips: int, config: InfluenceConfig) -> None:
    """Raise ``ConfigError`` where settings that look at all clips at once ask for more than memory should hold."""
    if samples * queries * clips > LARGEST:
        setting = f"combine {config.combine}" if config.combine in RELATIVE else "overlap remove"
        raise ConfigError(
            f"influence: {setting} compares each clip with all others and holds {samples * queries * clips:,} cosines "
            f"in memory, {LARGEST:,} are allowed: use combine mean-cosine and overlap keep, which need no such room, "
            "or fewer queries, timesteps and noises"
        )


def _absolute_blocks(
    opened: Scorable, train: Sequence[str], config: InfluenceConfig
) -> Iterator[tuple[int, list[npt.NDArray[np.float32]]]]:
    """Influence by one checkpoint where each clip is scored by itself: clips so far, and (Q, B) of each kind."""
    sides = (SIDES[config.mask_side], SIDES["none"])
    made = opened.preconditioners(train, sides, config, config.combine)
    query_QS2D = opened.query.read("sketch", opened.queries)
    motion = scores_and_without(made[0], query_QS2D[:, :, sides[0][0]], config.combine)
    whole = Scorer(made[1].query(query_QS2D[:, :, sides[1][0]]), config.combine)

    def scored(train_BS2D: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        motion_QB, *without_SQB = motion(train_BS2D[:, :, sides[0][1]])
        return [motion_QB, whole.scores(made[1].train(train_BS2D[:, :, sides[1][1]])), *without_SQB]

    return opened.in_parallel(train, scored)


def _at_once(opened: Scorable, train: Sequence[str], config: InfluenceConfig) -> list[npt.NDArray[np.float32]]:
    """Influence by one checkpoint: (Q, N) of each kind."""
    if config.combine not in RELATIVE:
        blocks = [block for _, block in _absolute_blocks(opened, train, config)]
        return [np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True)]
    sides = (SIDES[config.mask_side], SIDES["none"])
    samples = len(opened.train.samples)
    cosines = [np.empty((samples, len(opened.queries), len(train)), np.float32) for _ in sides]
    preconditioners = opened.preconditioners(train, sides, config, config.combine)
    for columns, query_QS2D, train_BS2D in opened.blocks(train):
        for k, (query_side, train_side) in enumerate(sides):
            pair = preconditioners[k].pair(query_QS2D[:, :, query_side], train_BS2D[:, :, train_side])
            cosines[k][:, :, columns] = sample_cosines(*pair)
    relative = RELATIVE[config.combine]
    others = [relative(np.delete(cosines[0], s, 0)) for s in range(samples if samples > 1 else 0)]
    return [relative(cosines[0]), relative(cosines[1]), *others]


def _overlap(store: RunStore, queries: Sequence[str], train: Sequence[str]) -> npt.NDArray[np.float64]:
    """How alike the motion masks of queries and training clips are; NaN where a clip has none."""
    table = store.table("motion")

    def masks(ids: Sequence[str]) -> npt.NDArray[np.float32]:
        has_N = np.asarray([table.status(clip_id) == Status.DONE for clip_id in ids])
        read = table.read("mask", [clip_id for clip_id, has in zip(ids, has_N, strict=True) if has])
        every = np.full((len(ids), math.prod(read.shape[1:])), np.nan, np.float32)
        every[has_N] = read.reshape(len(read), -1)
        return every

    return mask_overlap(masks(queries), masks(train))


def queries_in_training(motion: Table, train: Sequence[str], queries: Sequence[str]) -> dict[str, str]:
    """Queries whose video is also a training clip's, whatever either is called: query id -> training clip's id.

    Such a pair has an influence near 1, which says nothing of how the clip teaches. Windows of one video count as the
    same video, whether or not they overlap.
    """
    ids = [clip_id for clip_id in (*train, *queries) if clip_id in motion]
    contents = {clip_id: str(c) for clip_id, c in zip(ids, motion.read("content", ids), strict=True) if str(c)}
    trained = {contents[clip_id]: clip_id for clip_id in reversed(train) if clip_id in contents}
    return {q: trained[contents[q]] for q in queries if contents.get(q) in trained}
