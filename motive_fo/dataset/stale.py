"""Figures of another file or caption than a clip has now, and scores of other gradients than a run has now.

The step that computes gradients finds both by itself and computes anew. Whoever only uses what was computed asks here,
so that nobody trains on a clip for what another film was worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from motive_fo.dataset.choose import records_of
from motive_fo.dataset.run_record import RunRecord
from motive_fo.errors import InputError
from motive_fo.pipeline.record import ClipRecord, replaced
from motive_fo.store.run_store import Role, RunStore

GENERATION = "generation"
"""Of a step, in the run's record: the run's generation when the step last computed a row, or when it read all."""
_ROLES: tuple[Role, ...] = ("train", "query")


def stale_clips(samples: Any, record: RunRecord, store: RunStore) -> list[str]:
    """Ids of the clips whose file or caption is another one than their gradients, or else their motion, are of.

    Args:
        samples: a collection of the run's dataset, or of that of its queries.
    """
    records = _records(samples, record)
    found: set[str] = set()
    left = list(records)
    for role in _ROLES:
        if store.has_table(role):
            table = next(iter(store.sketches(role).tables.values()))
            here = [record for record in left if record.id in table]
            found |= {record.id for record in replaced(table, here, with_caption=True)}
            left = [record for record in left if record.id not in table]
    if store.has_table("motion"):
        table = store.table("motion")
        found |= {each.id for each in replaced(table, [each for each in left if each.id in table], with_caption=False)}
    return [record.id for record in records if record.id in found]


def _records(samples: Any, record: RunRecord) -> list[ClipRecord]:
    try:
        return records_of(samples, record).records
    except InputError:  # the field of the run's captions is gone: what is a caption now is another one
        return records_of(samples).records


def stale_sentence(ids: Sequence[str], what: str) -> str:
    """What to say of stale clips, with the way out."""
    return (
        f"{len(ids)} {what} have another file or caption than their figures were computed of ({ids[0]}): compute "
        "gradients and score again (motive gradients, motive influence)"
    )


def scored_before_gradients(record: RunRecord) -> str | None:
    """A sentence where gradients were computed after the last scoring; None where none were."""
    scored = record.steps.get("influence", {}).get(GENERATION)
    computed = [record.steps.get(f"{role} gradients", {}).get(GENERATION, 0) for role in _ROLES]
    if scored is None or max(computed) <= scored:
        return None
    return "gradients were computed after the last scoring, whose cosines are used: score again (motive influence)"
