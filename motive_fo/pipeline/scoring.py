"""The scoring step: cosines of all training clips with all queries, from the store alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from motive_fo.config import Combine, InfluenceConfig, plain
from motive_fo.errors import StoreError
from motive_fo.influence.cosine import SIDES, cosine_scores, mean_ranks, sample_cosines
from motive_fo.influence.preconditioner import Moments, Preconditioner
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import Sample, SketchTables, samples_of
from motive_fo.store.table import Status, Table

_BLOCK_SKETCHES = 8192  # read at once: 32 MiB at 512 numbers


@dataclass(frozen=True)
class Scores:
    """Influence of N training clips on Q queries.

    Attributes:
        motion_QN: with the motion mask on the sides the settings name; NaN for clips without a score.
        whole_QN: without any mask: the influence of the whole clip.
        train_ids, query_ids: the clips, in the axes' order.
        refused: queries that cannot be used, with the reason's code.
        samples: the timesteps and noises that were combined.
    """

    motion_QN: npt.NDArray[np.float32]
    whole_QN: npt.NDArray[np.float32]
    train_ids: list[str]
    query_ids: list[str]
    refused: dict[str, str]
    samples: list[Sample]


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
    progress: Progress = silent,
) -> tuple[Scores, StepReport]:
    """Score training clips against queries and keep the cosines in the store.

    A query that failed or is static is left out and reported: it shows no motion to look for.

    Raises:
        StoreError: the clips have no sketches yet, no query can be used, or too few clips for ``config.center``.
        ConfigError: sketches are too long for ``config.kernel``.
    """
    report = StepReport("influence", clips=len(train))
    with report.timed("total"):
        opened = _open(train, queries, store, config)
        progress("influence", 0, len(train))
        motion_QN = np.empty((len(opened.queries), len(train)), np.float32)
        whole_QN = np.empty_like(motion_QN)
        ranked = config.combine == "mean-rank"  # ranks need all clips at once, cosines do not
        shape = (len(opened.train.samples), *motion_QN.shape)
        cosines = [np.empty(shape, np.float32) for _ in range(2)] if ranked else []
        sides = (SIDES[config.mask_side], SIDES["none"])
        preconditioners = opened.preconditioners(train, sides, config, config.combine)
        for columns, query_QS2D, train_BS2D in opened.blocks(train):
            for k, (query_side, train_side) in enumerate(sides):
                pair = preconditioners[k].pair(query_QS2D[:, :, query_side], train_BS2D[:, :, train_side])
                if ranked:
                    cosines[k][:, :, columns] = sample_cosines(*pair)
                else:
                    (motion_QN, whole_QN)[k][:, columns] = cosine_scores(*pair, config.combine)
            progress("influence", columns.stop, len(train))
        if ranked:
            motion_QN, whole_QN = (mean_ranks(each) for each in cosines)
        report.computed = len(train)
        report.status.update(opened.train.status(t).name.lower() for t in train)
        refused = opened.refused
        if refused:
            report.notes.append(f"{len(refused)} of {len(queries)} queries left out: {_listing(refused)}")
        settings: dict[str, Any] = {
            **plain(config),
            "refused": refused,
            "samples": [list(sample) for sample in opened.train.samples],
        }
        store.write_scores({"motion": motion_QN, "whole": whole_QN}, train, opened.queries, settings)
    return Scores(motion_QN, whole_QN, list(train), opened.queries, refused, opened.train.samples), report


def sample_scores(
    train: Sequence[str], queries: Sequence[str], store: RunStore, config: InfluenceConfig
) -> SampleScores:
    """The same cosines for each timestep and noise by itself, from the stored sketches; nothing is written.

    For ``influence.stability``. ``config.combine`` plays no part; ``center`` and ``kernel`` are as in ``score``.
    Arguments and errors as for ``score``.
    """
    opened = _open(train, queries, store, config)
    scores_SQN = np.empty((len(opened.train.samples), len(opened.queries), len(train)), np.float32)
    query_side, train_side = SIDES[config.mask_side]
    (preconditioner,) = opened.preconditioners(train, [SIDES[config.mask_side]], config, "mean-cosine")
    for columns, query_QS2D, train_BS2D in opened.blocks(train):
        pair = preconditioner.pair(query_QS2D[:, :, query_side], train_BS2D[:, :, train_side])
        scores_SQN[:, :, columns] = sample_cosines(*pair)
    return SampleScores(scores_SQN, opened.train.samples, opened.queries, list(train))


@dataclass(frozen=True)
class _Opened:
    """The sketches to score with, checked."""

    train: SketchTables
    query: SketchTables
    queries: list[str]
    refused: dict[str, str]

    def blocks(self, train: Sequence[str]) -> Iterator[tuple[slice, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """The training clips in blocks: their columns, the queries' sketches (Q, S, 2, D) and their own."""
        query_QS2D = self.query.read("sketch", self.queries)
        rows = max(1, _BLOCK_SKETCHES // len(self.train.samples))
        for first in range(0, len(train), rows):
            block = train[first : first + rows]
            yield slice(first, first + len(block)), query_QS2D, self.train.read("sketch", block)

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


def _open(train: Sequence[str], queries: Sequence[str], store: RunStore, config: InfluenceConfig) -> _Opened:
    samples = _chosen_samples(store, config)
    train_tables, query_tables = store.sketches("train", samples), store.sketches("query", samples)
    _require_rows(train_tables, train, "training clips")
    _require_rows(query_tables, queries, "queries")
    refused = {q: _reason(query_tables, q) for q in queries if query_tables.status(q) != Status.DONE}
    usable = [q for q in queries if q not in refused]
    if not usable:
        raise StoreError(
            f"none of the {len(queries)} queries can be used: {_listing(refused)}. Queries must decode and must move"
        )
    return _Opened(train_tables, query_tables, usable, refused)


def _chosen_samples(store: RunStore, config: InfluenceConfig) -> list[Sample]:
    """The samples the settings name; what they leave open is as the training clips' last gradient step had it."""
    in_use = store.sketches("train").samples
    if config.timesteps is None and config.noises is None:
        return in_use
    return samples_of(
        config.timesteps if config.timesteps is not None else [sample.timestep for sample in in_use],
        config.noises if config.noises is not None else [sample.noise for sample in in_use],
    )


def _require_rows(tables: SketchTables, ids: Sequence[str], what: str) -> None:
    if not ids:
        raise StoreError(f"there are no {what} to score")
    missing = sum(1 for clip_id in ids if tables.status(clip_id) == Status.PENDING)
    if not missing and len(tables.tables) > 1:  # a file that changed in between: one sketch is of another clip
        contents = np.stack([table.read("content", ids) for table in tables.tables.values()])
        missing = int((contents != contents[0]).any(0).sum())
    if missing:
        raise StoreError(f"{missing} of {len(ids)} {what} have no gradients yet: run the gradient step first")


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
