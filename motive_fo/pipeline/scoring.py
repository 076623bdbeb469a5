"""The scoring step: cosines of all training clips with all queries, from the store alone.

Sketches are read in blocks, multiplied on all cores and written to the store as they come, so that memory does not grow
with clips x queries. Two settings compare each clip with all others and hold the cosines of all (``LARGEST``): the
combinations ``mean-rank`` and ``mean-zscore``, and ``overlap`` ``remove``.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from motive_fo.config import Combine, InfluenceConfig, plain
from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.checkpoints import checkpoint_weights, weighted_mean
from motive_fo.influence.cosine import RELATIVE, SIDES, Scorer, sample_cosines
from motive_fo.influence.leakage import mask_overlap, without_overlap
from motive_fo.influence.preconditioner import Moments, Preconditioner
from motive_fo.pipeline.checkpoints import require_checkpoint
from motive_fo.pipeline.refusals import ScoreSpread
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import RunStore
from motive_fo.store.scores import ScoreRows
from motive_fo.store.sketches import Sample, SketchTables, samples_of
from motive_fo.store.table import Status, Table

_BLOCK_SKETCHES = 2048  # read at once by each of several workers: 8 MiB at 512 numbers
_HELD = 1 << 24  # a scoring of so many cosines stays in memory too: 64 MiB for each kind
#: cosines that are held at once for settings that compare each clip with all others: 512 MiB for each kind.
LARGEST: Final = 1 << 27

#: kinds of scores in the store.
KINDS: Final = ("motion", "whole")

Block = TypeVar("Block")


@dataclass(frozen=True)
class Scores:
    """Influence of N training clips on Q queries, query by query; ``read`` for all at once.

    Attributes:
        motion: with the motion mask on the sides the settings name; NaN for clips without a score.
        whole: without any mask: the influence of the whole clip.
        refused: queries that cannot be used, with the reason's code.
        samples: the timesteps and noises that were combined.
    """

    motion: ScoreRows
    whole: ScoreRows
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
        opened = _open_all(train, queries, store, config, others or {})
        while alike := _write_scores(opened, train, store, config, progress):
            opened = [(weight, one.without(alike)) for weight, one in opened]
        first = opened[0][1]
        report.computed = len(train)
        report.status.update(first.counts)
        if first.refused:
            report.notes.append(f"{len(first.refused)} of {len(queries)} queries left out: {_listing(first.refused)}")
        motion = store.scores("motion")
        whole = store.scores("whole", axes=motion)
        if math.prod(motion.shape) <= _HELD:
            motion, whole = motion.held(), whole.held()
    return Scores(motion, whole, first.refused, first.train.samples), report


def _write_scores(
    opened: Sequence[tuple[float, _Opened]],
    train: Sequence[str],
    store: RunStore,
    config: InfluenceConfig,
    progress: Progress,
) -> list[str]:
    """Score and keep it. Returns queries whose scores are all alike: they are to be left out, and the rest kept again.

    Raises:
        StoreError: the scores of every query are; nothing was kept.
    """
    first = opened[0][1]
    settings: dict[str, Any] = {
        **plain(config),
        "refused": first.refused,
        "samples": [list(sample) for sample in first.train.samples],
    }
    spread = ScoreSpread(len(first.queries))
    progress("influence", 0, len(train))
    with store.begin_scores(KINDS, train, first.queries, settings) as writer:
        for done, block in _score_blocks(opened, train, store, config):
            writer.put(block)
            spread.add(block["motion"])
            progress("influence", done, len(train))
        alike = [query for query, same in zip(first.queries, spread.alike_Q, strict=True) if same]
        if alike and len(alike) == len(first.queries):
            raise StoreError(
                f"all training clips have the same score for every query ({len(alike)}): such scores rank nothing and "
                "were not kept. Look at the gradients (motive doctor --dataset NAME --run RUN)"
            )
    return alike


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
    opened = _open_all(train, queries, store, config, others or {})
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
    opened: Sequence[tuple[float, _Opened]], train: Sequence[str], store: RunStore, config: InfluenceConfig
) -> Iterator[tuple[int, dict[str, npt.NDArray[np.float32]]]]:
    """Influence of the training clips in order, by blocks: clips so far, and kind -> (Q, B)."""
    weights = [weight for weight, _ in opened]
    if config.combine not in RELATIVE and config.overlap == "keep":
        for parts in zip(*(_absolute_blocks(one, train, config) for _, one in opened), strict=True):
            motion_QB, whole_QB = (weighted_mean(each, weights) for each in zip(*(p for _, p in parts), strict=True))
            yield parts[0][0], {"motion": motion_QB, "whole": whole_QB}
        return
    first = opened[0][1]
    _require_room(len(first.train.samples) if config.combine in RELATIVE else 1, len(first.queries), len(train), config)
    each = [_at_once(one, train, config) for _, one in opened]
    motion_QN, whole_QN = (weighted_mean(part, weights) for part in zip(*each, strict=True))
    if config.overlap == "remove":
        motion_QN = without_overlap(motion_QN, _overlap(store, first.queries, train))
    yield len(train), {"motion": motion_QN, "whole": whole_QN}


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
    opened: _Opened, train: Sequence[str], config: InfluenceConfig
) -> Iterator[tuple[int, tuple[npt.NDArray[np.float32], ...]]]:
    """Influence by one checkpoint where each clip is scored by itself: clips so far, motion and whole (Q, B)."""
    sides = (SIDES[config.mask_side], SIDES["none"])
    preconditioners = opened.preconditioners(train, sides, config, config.combine)
    query_QS2D = opened.query.read("sketch", opened.queries)
    scorers = [
        Scorer(made.query(query_QS2D[:, :, query_side]), config.combine)
        for made, (query_side, _) in zip(preconditioners, sides, strict=True)
    ]

    def scored(train_BS2D: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ...]:
        return tuple(
            scorer.scores(made.train(train_BS2D[:, :, train_side]))
            for scorer, made, (_, train_side) in zip(scorers, preconditioners, sides, strict=True)
        )

    return opened.in_parallel(train, scored)


def _at_once(
    opened: _Opened, train: Sequence[str], config: InfluenceConfig
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Influence by one checkpoint, with the mask on the sides the settings name and without any: (Q, N) each."""
    if config.combine not in RELATIVE:
        blocks = [block for _, block in _absolute_blocks(opened, train, config)]
        motion_QN, whole_QN = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
        return motion_QN, whole_QN
    sides = (SIDES[config.mask_side], SIDES["none"])
    cosines = [np.empty((len(opened.train.samples), len(opened.queries), len(train)), np.float32) for _ in sides]
    preconditioners = opened.preconditioners(train, sides, config, config.combine)
    for columns, query_QS2D, train_BS2D in opened.blocks(train):
        for k, (query_side, train_side) in enumerate(sides):
            pair = preconditioners[k].pair(query_QS2D[:, :, query_side], train_BS2D[:, :, train_side])
            cosines[k][:, :, columns] = sample_cosines(*pair)
    relative = RELATIVE[config.combine]
    return relative(cosines[0]), relative(cosines[1])


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


@dataclass(frozen=True)
class _Opened:
    """The sketches to score with, checked."""

    train: SketchTables
    query: SketchTables
    queries: list[str]
    refused: dict[str, str]
    counts: dict[str, int]

    def without(self, queries: Sequence[str]) -> _Opened:
        """The same without queries whose scores are all alike."""
        kept = [query for query in self.queries if query not in queries]
        return replace(self, queries=kept, refused={**self.refused, **dict.fromkeys(queries, "constant_scores")})

    def blocks(self, train: Sequence[str]) -> Iterator[tuple[slice, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """The training clips in blocks: their columns, the queries' sketches (Q, S, 2, D) and their own."""
        query_QS2D = self.query.read("sketch", self.queries)
        rows = max(1, _BLOCK_SKETCHES // len(self.train.samples))
        for first in range(0, len(train), rows):
            block = train[first : first + rows]
            yield slice(first, first + len(block)), query_QS2D, self.train.read("sketch", block)

    def in_parallel(
        self, train: Sequence[str], scored: Callable[[npt.NDArray[np.float32]], Block]
    ) -> Iterator[tuple[int, Block]]:
        """What ``scored`` makes of the training clips' sketches (B, S, 2, D), block by block and in order, on all
        cores: each reads and multiplies its own block, so that reading and multiplying overlap."""
        rows = max(1, _BLOCK_SKETCHES // len(self.train.samples))
        starts = range(0, len(train), rows)

        def work(first: int) -> Block:
            return scored(self.train.read("sketch", train[first : first + rows]))

        if len(starts) == 1:  # threads would take longer to start than it takes
            yield len(train), work(0)
            return
        workers = len(os.sched_getaffinity(0)) + 1  # one more, which reads while the others compute
        # BLAS would put all cores to every block and wait for the slowest each time
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Block]] = deque()
            coming = iter(starts)
            for first in starts:
                waiting.extend(pool.submit(work, start) for start in islice(coming, 2 * workers - len(waiting)))
                yield min(first + rows, len(train)), waiting.popleft().result()

    def preconditioners(
        self, train: Sequence[str], sides: Sequence[tuple[int, int]], config: InfluenceConfig, combine: Combine
    ) -> list[Preconditioner]:
        """One for each pair of mask sides (query's, training clip's), from one pass over the training clips."""
        second = config.kernel == "gauss-newton"
        if not second and config.center == "none":
            return [Preconditioner() for _ in sides]
        moments: dict[int, Moments] = {}
        for _, query_QS2D, train_BS2D in self.blocks(train):
            samples, _, dimension = query_QS2D.shape[1:]
            for side in {side for pair in sides for side in pair}:
                if side not in moments:
                    wanted = second and side in {train_side for _, train_side in sides}
                    moments[side] = Moments(samples, dimension, second=wanted, merged=combine == "mean-sketch")
                moments[side].add(train_BS2D[:, :, side])
        return [
            Preconditioner.of(moments[query_side], moments[train_side], config.center, config.kernel, config.damping)
            for query_side, train_side in sides
        ]


def _open_all(
    train: Sequence[str],
    queries: Sequence[str],
    store: RunStore,
    config: InfluenceConfig,
    others: Mapping[str, RunStore],
) -> list[tuple[float, _Opened]]:
    """The run with weight 1 and its other checkpoints with theirs. A query that one refuses is left out of all."""
    weights = checkpoint_weights(config.checkpoints)
    opened = [_open(train, queries, store, config)]
    for name in weights:
        if name not in others:
            raise ConfigError(f"influence.checkpoints: the store of run {name!r} was not given: open it for scoring")
        other = others[name]
        require_checkpoint(name, store, other, opened[0].train.samples, train, opened[0].queries)
        opened.append(_open(train, opened[0].queries, other, config, opened[0].train.samples))
    usable = set.intersection(*(set(one.queries) for one in opened))
    refused = {q: code for one in opened for q, code in one.refused.items()}
    kept = [q for q in opened[0].queries if q in usable]
    if not kept:
        raise StoreError(f"no query can be used by every checkpoint: {_listing(refused)}. Leave checkpoints out")
    return [
        (weight, replace(one, queries=kept, refused=refused))
        for weight, one in zip([1.0, *weights.values()], opened, strict=True)
    ]


def _open(
    train: Sequence[str],
    queries: Sequence[str],
    store: RunStore,
    config: InfluenceConfig,
    samples: list[Sample] | None = None,
) -> _Opened:
    """``samples`` are those of the settings where open."""
    samples = _chosen_samples(store, config) if samples is None else samples
    train_tables = store.sketches("train", samples)
    query_tables = store.sketches("query", train_tables.samples)
    counts = _require_rows(train_tables, train, "training clips")
    _require_rows(query_tables, queries, "queries")
    refused = {q: _reason(query_tables, q) for q in queries if query_tables.status(q) != Status.DONE}
    usable = [q for q in queries if q not in refused]
    if not usable:
        raise StoreError(
            f"none of the {len(queries)} queries can be used: {_listing(refused)}. Queries must decode and must move"
        )
    return _Opened(train_tables, query_tables, usable, refused, counts)


def _chosen_samples(store: RunStore, config: InfluenceConfig) -> list[Sample] | None:
    """The samples the settings name; what they leave open is as the training clips' last gradient step had it: None
    for all of those."""
    if config.timesteps is None and config.noises is None:
        return None
    in_use = store.sketches("train").samples
    return samples_of(
        config.timesteps if config.timesteps is not None else [sample.timestep for sample in in_use],
        config.noises if config.noises is not None else [sample.noise for sample in in_use],
    )


def _require_rows(tables: SketchTables, ids: Sequence[str], what: str) -> dict[str, int]:
    """How many of the clips have which status. Raises ``StoreError`` where some are not computed yet."""
    if not ids:
        raise StoreError(f"there are no {what} to score")
    counts = np.bincount(tables.states(ids), minlength=len(Status)).tolist()
    missing = counts[Status.PENDING]
    if not missing and len(tables.tables) > 1:  # a file that changed in between: one sketch is of another clip
        contents = np.stack([table.read("content", ids) for table in tables.tables.values()])
        missing = int((contents != contents[0]).any(0).sum())
    if missing:
        raise StoreError(f"{missing} of {len(ids)} {what} have no gradients yet: run the gradient step first")
    return {status.name.lower(): counts[status] for status in Status if counts[status]}


def _reason(table: SketchTables, clip_id: str) -> str:
    return str(table.read("code", [clip_id])[0])


def _listing(refused: dict[str, str]) -> str:
    shown = [f"{clip_id} ({code})" for clip_id, code in list(refused.items())[:5]]
    return ", ".join(shown) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")


def queries_in_training(motion: Table, train: Sequence[str], queries: Sequence[str]) -> dict[str, str]:
    """Queries whose video is also a training clip's, whatever either is called: query id -> training clip's id.

    Such a pair has an influence near 1, which says nothing of how the clip teaches. Windows of one video count as the
    same video, whether or not they overlap.
    """
    ids = [clip_id for clip_id in (*train, *queries) if clip_id in motion]
    contents = {clip_id: str(c) for clip_id, c in zip(ids, motion.read("content", ids), strict=True) if str(c)}
    trained = {contents[clip_id]: clip_id for clip_id in reversed(train) if clip_id in contents}
    return {q: trained[contents[q]] for q in queries if contents.get(q) in trained}
