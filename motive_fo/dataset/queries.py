"""The queries of a dataset: which clips they are, how they are grouped, which are followed and which avoided.

A query to follow is tagged ``query``, one to avoid ``avoid``; its group is the field ``motive_group``. All of it can be
changed in the App as well. Nothing here is computed: what changes is used from the next scoring or curation on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from motive_fo.dataset.choose import AVOID_TAG, QUERY_TAG, choose_train, ids_of, records_of, samples_with
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone, load_dataset
from motive_fo.dataset.imports import START_FIELD, import_clips, list_clips
from motive_fo.dataset.run_record import RunRecord
from motive_fo.errors import InputError
from motive_fo.progress import Progress, silent

GROUP_FIELD = "motive_group"


@dataclass(frozen=True)
class Query:
    """One query clip.

    Attributes:
        id: its clip id.
        group: name of its group, or None.
        avoid: whether it is to be avoided.
        caption: what it shows.
        path: its file.
        other_caption: where it was added just now and the caption was corrected both in the dataset and in its source,
            the source's, which was not taken.
    """

    id: str
    group: str | None
    avoid: bool
    caption: str
    path: str
    other_caption: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def list_queries(samples: Any) -> list[Query]:
    """Every clip of a dataset (or view) that is tagged ``query`` or ``avoid``, by group and id."""
    samples = as_samples(samples)
    tagged = samples.match_tags([QUERY_TAG, AVOID_TAG])
    return sorted(_queries(tagged), key=lambda query: (query.avoid, query.group or "", query.id))


def add_queries(
    dataset: str,
    source: str | Path,
    *,
    group: str | None = None,
    avoid: bool = False,
    name: str | None = None,
    progress: Progress = silent,
) -> list[Query]:
    """Clips of a dataset, or of a folder that is imported first, as queries.

    Args:
        dataset: name of the dataset; made where ``source`` is imported.
        source: a tag or saved view of the dataset (``tag:NAME``, ``view:NAME``, or the bare name); else a folder or
            listing as for ``import_clips``.
        group: name of their group. Where open, clips in subfolders of ``source`` (``spin/1.mp4``) take the subfolder's
            name, all others keep the group they have.
        avoid: they show what is not wanted, such as bad generations.
        name: first part of the ids of imported clips.

    Returns:
        the queries that were added or changed.

    Raises:
        InputError: there is no such tag, view, folder or listing.
    """
    _require_group(group)
    if _is_within(dataset, str(source)):
        return mark_queries(choose_train(load_dataset(dataset), str(source)), group=group, avoid=avoid)
    entries = list_clips(source, name=name).entries
    role = AVOID_TAG if avoid else QUERY_TAG
    report = import_clips(source, dataset, role=role, name=name, progress=progress)
    samples = _at(load_dataset(dataset), {(str(entry.path), entry.start) for entry in entries})
    if group is None:
        parts = {entry.id: entry.id.split("/") for entry in entries}
        ids = ids_of(samples)
        _write_groups(dataset_of(samples), {ids[i]: p[1] for i, p in parts.items() if len(p) > 2 and i in ids})
    queries = mark_queries(samples, group=group, avoid=avoid)
    return [replace(query, other_caption=report.conflicts.get(query.id)) for query in queries]


def mark_queries(samples: Any, *, group: str | None = None, avoid: bool = False) -> list[Query]:
    """Make clips of a dataset queries, as they are selected in the App.

    Args:
        samples: a view.
        group: name of their group; None leaves the groups they have.
        avoid: they show what is not wanted.

    Returns:
        the queries.
    """
    _require_group(group)
    chosen = records_of(samples)
    dataset = dataset_of(samples)
    view = dataset.select(list(chosen.sample_ids.values()), ordered=True)  # tags must not change what the view holds
    view.untag_samples(QUERY_TAG if avoid else AVOID_TAG)
    view.tag_samples(AVOID_TAG if avoid else QUERY_TAG)
    if group is not None:
        _write_groups(dataset, dict.fromkeys(chosen.sample_ids.values(), group))
    view.reload()
    return _queries(view)


def remove_queries(dataset: Any, names: Sequence[str]) -> list[Query]:
    """Queries and whole groups by name are queries no longer; the clips stay in the dataset, their sketches in the
    stores.

    Returns:
        those that were removed. Raises ``InputError`` for a name that is neither.
    """
    samples = dataset_of(as_samples(dataset))
    chosen = _named(list_queries(samples), names)
    view = samples_with(samples, [query.id for query in chosen])
    view.untag_samples([QUERY_TAG, AVOID_TAG])
    return chosen


def group_queries(dataset: Any, names: Sequence[str], group: str | None) -> list[Query]:
    """Put queries and whole groups, by name, into a group; None takes them out of theirs.

    Returns:
        the queries as they are now. Raises ``InputError`` for a name that is no query and no group.
    """
    _require_group(group)
    samples = dataset_of(as_samples(dataset))
    chosen = _named(list_queries(samples), names)
    ids = ids_of(samples_with(samples, [query.id for query in chosen]))
    _write_groups(samples, {ids[query.id]: group for query in chosen})
    return [replace(query, group=group) for query in chosen]


def run_queries(dataset: Any, record: RunRecord, ids: Sequence[str]) -> list[Query]:
    """What the dataset says of a run's queries, in the order of ``ids``; one that is gone is followed, ungrouped."""
    holders = [dataset]
    if record.query_dataset and fiftyone().dataset_exists(record.query_dataset):
        holders.append(load_dataset(record.query_dataset))
    known: dict[str, Query] = {}
    for holder in holders:
        known |= {query.id: query for query in _queries(samples_with(holder, ids))}
    return [known.get(i) or Query(i, None, False, "", "") for i in ids]


def to_follow_and_avoid(
    queries: Sequence[Query], follow: Sequence[str], avoid: Sequence[str]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Which queries a selection uses, and which of them it avoids.

    Args:
        queries: the run's.
        follow: ids and groups to follow; where empty all that are not avoided.
        avoid: ids and groups to avoid, besides those that are tagged so.

    Returns:
        places in ``queries`` (U,), and for each whether it is avoided (U,).

    Raises:
        InputError: a name is no query and no group, or is both followed and avoided.
    """
    avoided = {query.id for query in _named(queries, avoid)} if avoid else set()
    followed = {query.id for query in _named(queries, follow)} if follow else set()
    both = sorted(followed & avoided)
    if both:
        raise InputError(f"{both[0]!r} is both followed and avoided: leave it out of one of the two")
    avoided |= {query.id for query in queries if query.avoid} - followed
    if not follow:
        followed = {query.id for query in queries} - avoided
    used = [n for n, query in enumerate(queries) if query.id in followed | avoided]
    return np.asarray(used, np.intp), np.asarray([queries[n].id in avoided for n in used], np.bool_)


def _queries(samples: Any) -> list[Query]:
    chosen = records_of(samples)
    groups = samples.values(GROUP_FIELD) if GROUP_FIELD in samples.get_field_schema() else [None] * len(chosen.records)
    return [
        Query(record.id, group or None, AVOID_TAG in tags, record.caption, str(record.path))
        for record, group, tags in zip(chosen.records, groups, samples.values("tags"), strict=True)
    ]


def _named(queries: Sequence[Query], names: Sequence[str]) -> list[Query]:
    """The queries that names mean: an id, a group, or ``group:NAME`` where a group is called like a query."""
    chosen: list[Query] = []
    for name in names:
        wanted = name.removeprefix("group:")
        found = [query for query in queries if query.id == name] or [q for q in queries if q.group == wanted]
        if not found:
            groups = sorted({query.group for query in queries if query.group})
            ids = ", ".join(query.id for query in queries[:5]) + (", ..." if len(queries) > 5 else "")
            raise InputError(
                f"{name!r} is no query and no group of queries; groups: {', '.join(groups) or 'none'}; "
                f"queries: {ids or 'none'}"
            )
        chosen += [query for query in found if query not in chosen]
    return chosen


def _is_within(dataset: str, source: str) -> bool:
    """Whether a source names clips that the dataset has."""
    if source.startswith(("tag:", "view:")):
        return True
    if not fiftyone().dataset_exists(dataset):
        return False
    target = load_dataset(dataset)
    return source in target.distinct("tags") or target.has_saved_view(source)


def _at(dataset: Any, places: set[tuple[str, float]]) -> Any:
    """The samples of these files and starts."""
    view = dataset.match({"filepath": {"$in": sorted({path for path, _ in places})}})
    ids, paths, starts = view.values(["id", "filepath", START_FIELD])
    return dataset.select([i for i, p, s in zip(ids, paths, starts, strict=True) if (p, s or 0.0) in places])


def _write_groups(dataset: Any, groups: Mapping[str, str | None]) -> None:
    fo = fiftyone()
    dataset.add_sample_field(GROUP_FIELD, fo.StringField, description="group of a query clip: the motion it shows")
    if groups:
        dataset.set_values(GROUP_FIELD, groups, key_field="id", progress=False)


def _require_group(group: str | None) -> None:
    if group is not None and (not group.strip() or group != group.strip() or "," in group or ":" in group):
        raise InputError(f"{group!r} cannot name a group: use a word without commas and colons")
