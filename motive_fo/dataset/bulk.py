"""Fields of many samples, written in blocks: one write for all fields of a sample, none where nothing changed.

FiftyOne's ``set_values`` writes one field for every sample, so that a step with ten fields passes over the dataset ten
times. Here a block of samples is read, compared and written at once: memory does not grow with the dataset, and what is
in the database already costs no write, no new ``last_modified_at`` and no space in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from motive_fo.progress import Progress, silent

BLOCK: Final = 16384  # samples read, compared and written at a time

#: field -> a value for each sample of the block; None where there is none
Columns = Mapping[str, Sequence[Any]]


def write_blocks(
    dataset: Any,
    group: str,
    sample_ids: Sequence[str],
    columns_of: Callable[[slice], Columns],
    progress: Progress = silent,
) -> int:
    """Write fields of a group for some samples. A sample that is gone is passed over.

    Args:
        sample_ids: the samples, N of them.
        columns_of: a part of 0..N -> the values of the samples in it, plain Python; it is called block by block.
        progress: told of what takes more than one block.

    Returns:
        how many samples were written.
    """
    from bson import ObjectId

    now, written, total = datetime.now(UTC), 0, len(sample_ids)
    for first in range(0, total, BLOCK):
        part = slice(first, min(total, first + BLOCK))
        if total > BLOCK:
            progress(f"fields of {group}", first, total)
        keys = [ObjectId(sample_id) for sample_id in sample_ids[part]]
        written += _write_block(dataset, group, keys, columns_of(part), now)
    if total > BLOCK:
        progress(f"fields of {group}", total, total)
    return written


def _write_block(dataset: Any, group: str, keys: Sequence[Any], columns: Columns, now: datetime) -> int:
    from pymongo import UpdateOne

    names = list(columns)
    # the group's fields and no others: some are long
    found = dataset._sample_collection.find({"_id": {"$in": keys}}, [f"{group}.{name}" for name in names])
    known = {document["_id"]: document.get(group) or {} for document in found}
    writes, changed = [], []
    for key, *values in zip(keys, *columns.values(), strict=True):
        here = known.get(key)
        if here is None:
            continue
        # a field that is unknown is written as such: whoever reads a sample finds every field there
        news = {n: value for n, value in zip(names, values, strict=True) if n not in here or here[n] != value}
        if news:
            fields = {f"{group}.{name}": value for name, value in news.items()}
            writes.append(UpdateOne({"_id": key}, {"$set": {**fields, "last_modified_at": now}}))
            changed.append(str(key))
    if writes:
        # what set_values does; with ids it looks for no other sample objects that are alive in this process
        dataset._bulk_write(writes, ids=changed)
    return len(writes)


def in_blocks(ids: Sequence[Any]) -> list[Sequence[Any]]:
    """A list in parts that fit into one question to the database, whose documents hold 16 MB."""
    return [ids[first : first + BLOCK] for first in range(0, len(ids), BLOCK)]
