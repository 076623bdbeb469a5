"""The sketches that a scoring uses: checked, with the queries that cannot be used left out, and read block by block."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from motive_fo.config import Combine, InfluenceConfig
from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.checkpoints import checkpoint_weights
from motive_fo.influence.preconditioner import Moments, Preconditioner
from motive_fo.pipeline.checkpoints import require_checkpoint
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import Sample, SketchTables, samples_of
from motive_fo.store.table import CHUNK_ROWS, Status

_BLOCK_SKETCHES = 16384  # read at once by each of several workers, at most: 64 MiB at 512 numbers
_AHEAD = 16  # so many blocks on are fetched from disk: enough for disks that answer late

Block = TypeVar("Block")


@dataclass(frozen=True)
class Scorable:
    """The sketches of training clips and queries to score with. Opened by ``open_all``.

    Attributes:
        queries: those that can be used.
        refused: the others -> the reason's code.
        counts: status -> training clips.
    """

    train: SketchTables
    query: SketchTables
    queries: list[str]
    refused: dict[str, str]
    counts: dict[str, int]

    def without(self, queries: Sequence[str]) -> Scorable:
        """The same without queries whose scores are all alike."""
        kept = [query for query in self.queries if query not in queries]
        return replace(self, queries=kept, refused={**self.refused, **dict.fromkeys(queries, "constant_scores")})

    def blocks(self, train: Sequence[str]) -> Iterator[tuple[slice, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """The training clips in blocks: their columns, the queries' sketches (Q, S, 2, D) and their own."""
        query_QS2D = self.query.read("sketch", self.queries)
        places_SN = self.train.places(train)
        for columns in _columns(places_SN):
            yield columns, query_QS2D, self.train.read_places("sketch", places_SN[:, columns])

    def in_parallel(
        self, train: Sequence[str], scored: Callable[[npt.NDArray[np.float32]], Block]
    ) -> Iterator[tuple[int, Block]]:
        """What ``scored`` makes of the training clips' sketches (B, S, 2, D), block by block and in order, on all
        cores: each reads and multiplies its own block. What comes after is fetched from disk meanwhile."""
        places_SN = self.train.places(train)
        every = _columns(places_SN)

        def work(place: int) -> Block:
            if place + _AHEAD < len(every):
                self.train.expect_places("sketch", places_SN[:, every[place + _AHEAD]])
            return scored(self.train.read_places("sketch", places_SN[:, every[place]]))

        if len(every) == 1:  # threads would take longer to start than it takes
            yield len(train), work(0)
            return
        for columns in every[:_AHEAD]:
            self.train.expect_places("sketch", places_SN[:, columns])
        workers = len(os.sched_getaffinity(0))
        # BLAS would put all cores to every block and wait for the slowest each time
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Block]] = deque()
            coming = iter(range(len(every)))
            for columns in every:
                waiting.extend(pool.submit(work, ahead) for ahead in islice(coming, 2 * workers - len(waiting)))
                yield columns.stop, waiting.popleft().result()

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


def _columns(places_SN: npt.NDArray[np.int64]) -> list[slice]:
    """Training clips by blocks that end where the store's chunks end, so that no chunk is read twice."""
    samples, clips = places_SN.shape
    rows = max(1, min(CHUNK_ROWS, _BLOCK_SKETCHES // samples))
    ends = [*range(rows - int(places_SN[0, 0]) % rows, clips, rows), clips]
    return [slice(start, end) for start, end in pairwise([0, *ends])]


def open_all(
    train: Sequence[str],
    queries: Sequence[str],
    store: RunStore,
    config: InfluenceConfig,
    others: Mapping[str, RunStore],
) -> list[tuple[float, Scorable]]:
    """The run with weight 1 and its other checkpoints with theirs. A query that one refuses is left out of all.

    Arguments and errors as for ``scoring.score``.
    """
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
        raise StoreError(f"no query can be used by every checkpoint: {listing(refused)}. Leave checkpoints out")
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
) -> Scorable:
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
            f"none of the {len(queries)} queries can be used: {listing(refused)}. Queries must decode and must move"
        )
    _require_numbers(query_tables, usable)
    return Scorable(train_tables, query_tables, usable, refused, counts)


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


def _require_numbers(tables: SketchTables, queries: Sequence[str]) -> None:
    """Raise ``StoreError`` where queries that are done have no finite sketch: a status is no proof of one."""
    finite_Q = np.isfinite(tables.read("sketch", queries)).all((1, 2, 3))
    without = [query for query, finite in zip(queries, finite_Q, strict=True) if not finite]
    if without:
        raise StoreError(
            f"{len(without)} queries are done and have no finite sketch ({', '.join(without[:5])}): the store is "
            "damaged. Mark them as not computed (motive store verify STORE --repair), then run the gradient step again"
        )


def _reason(table: SketchTables, clip_id: str) -> str:
    return str(table.read("code", [clip_id])[0])


def listing(refused: Mapping[str, str]) -> str:
    """Some of the refused queries with their reasons, for a sentence."""
    shown = [f"{clip_id} ({code})" for clip_id, code in list(refused.items())[:5]]
    return ", ".join(shown) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
