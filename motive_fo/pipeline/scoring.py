"""The scoring step: cosines of all training clips with all queries, from the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from motive_fo.config import InfluenceConfig, plain
from motive_fo.errors import StoreError
from motive_fo.influence.cosine import SIDES, cosine_scores
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Status, Table

_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Scores:
    """Influence of N training clips on Q queries.

    Attributes:
        motion_QN: with the motion mask on the sides the settings name; NaN for clips without a score.
        whole_QN: without any mask: the influence of the whole clip.
        train_ids, query_ids: the clips, in the axes' order.
        refused: queries that cannot be used, with the reason's code.
    """

    motion_QN: npt.NDArray[np.float32]
    whole_QN: npt.NDArray[np.float32]
    train_ids: list[str]
    query_ids: list[str]
    refused: dict[str, str]


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
        StoreError: the clips have no sketches yet, or no query can be used.
    """
    report = StepReport("influence", clips=len(train))
    with report.timed("total"):
        train_table, query_table = store.table("train"), store.table("query")
        _require_rows(train_table, train, "training clips")
        _require_rows(query_table, queries, "queries")
        refused = {q: _reason(query_table, q) for q in queries if query_table.status(q) != Status.DONE}
        usable = [q for q in queries if q not in refused]
        if not usable:
            raise StoreError(
                f"none of the {len(queries)} queries can be used: {_listing(refused)}. "
                "Queries must decode and must move"
            )
        motion_QN = np.empty((len(usable), len(train)), np.float32)
        whole_QN = np.empty_like(motion_QN)
        query_sketch = query_table.read("sketch", usable)
        query_side, train_side = SIDES[config.mask_side]
        progress("influence", 0, len(train))
        for first in range(0, len(train), _BLOCK_ROWS):
            block = train[first : first + _BLOCK_ROWS]
            sketch = train_table.read("sketch", block)
            columns = slice(first, first + len(block))
            motion_QN[:, columns] = cosine_scores(query_sketch[:, :, query_side], sketch[:, :, train_side])
            whole_QN[:, columns] = cosine_scores(query_sketch[:, :, 0], sketch[:, :, 0])
            progress("influence", columns.stop, len(train))
        report.computed = len(train)
        report.status.update(train_table.status(t).name.lower() for t in train)
        if refused:
            report.notes.append(f"{len(refused)} of {len(queries)} queries left out: {_listing(refused)}")
        settings: dict[str, Any] = {**plain(config), "refused": refused}
        store.write_scores({"motion": motion_QN, "whole": whole_QN}, train, usable, settings)
    return Scores(motion_QN, whole_QN, list(train), usable, refused), report


def _require_rows(table: Table, ids: Sequence[str], what: str) -> None:
    if not ids:
        raise StoreError(f"there are no {what} to score")
    missing = sum(1 for clip_id in ids if table.status(clip_id) == Status.PENDING)
    if missing:
        raise StoreError(f"{missing} of {len(ids)} {what} have no gradients yet: run the gradient step first")


def _reason(table: Table, clip_id: str) -> str:
    return str(table.read("code", [clip_id])[0])


def _listing(refused: dict[str, str]) -> str:
    shown = [f"{clip_id} ({code})" for clip_id, code in list(refused.items())[:5]]
    return ", ".join(shown) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
