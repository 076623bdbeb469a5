"""Which samples are training clips and which are queries, and what the steps see of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from motive_fo.dataset.captions import caption_field
from motive_fo.dataset.connect import dataset_of, fiftyone, load_dataset, require_video
from motive_fo.dataset.imports import ID_FIELD, START_FIELD
from motive_fo.dataset.run_record import RunRecord
from motive_fo.errors import InputError
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store.shards import Shard

TRAIN_TAG, QUERY_TAG, AVOID_TAG = "train", "query", "avoid"


@dataclass(frozen=True)
class Chosen:
    """Samples and the clip records made of them, in one order.

    Attributes:
        samples: the FiftyOne collection.
        records: one record for each sample.
        sample_ids: clip id -> sample id.
    """

    samples: Any
    records: list[ClipRecord]
    sample_ids: dict[str, str]

    @property
    def ids(self) -> list[str]:
        return [record.id for record in self.records]

    def part(self, shard: Shard | None) -> Chosen:
        """What one job of an array takes of it; all for None."""
        return self if shard is None else replace(self, records=list(shard.take(self.records)))


def records_of(samples: Any, record: RunRecord | None = None) -> Chosen:
    """Clip records of a dataset or view.

    A clip's id is its ``motive_id``, which our import sets to folder and relative path; samples without one use their
    sample id.

    Args:
        record: of the run whose captions are meant; ``captions.caption_field`` says what it is without one.

    Raises:
        InputError: not videos, two samples share a ``motive_id``, or the field of the run's captions is gone.
    """
    require_video(samples)
    schema = samples.get_field_schema()
    caption = caption_field(dataset_of(samples), record) or ""
    paths_read = ["id", "filepath", *(name for name in (ID_FIELD, caption, START_FIELD) if name in schema)]
    read = dict(zip(paths_read, samples.values(paths_read), strict=True))  # one pass over the samples
    sample_ids, paths = read["id"], read["filepath"]
    nothing = [None] * len(sample_ids)
    ids, captions, starts = (read.get(name, nothing) for name in (ID_FIELD, caption, START_FIELD))
    records = [
        ClipRecord(clip_id or sample_id, Path(path), caption or "", start or 0.0)
        for clip_id, sample_id, path, caption, start in zip(ids, sample_ids, paths, captions, starts, strict=True)
    ]
    return Chosen(samples, records, _unique([r.id for r in records], sample_ids))


def ids_of(samples: Any) -> dict[str, str]:
    """Clip id -> sample id of a dataset or view: ``records_of`` without records, for whole datasets.

    Raises:
        InputError: not videos, or two samples share a ``motive_id``.
    """
    return values_of(samples, "id")


def values_of(samples: Any, field: str) -> dict[str, Any]:
    """Clip id -> value of a field, in one pass over the samples. Errors as ``ids_of``."""
    require_video(samples)
    own = ID_FIELD in samples.get_field_schema()
    sample_ids, ids, values = samples.values(["id", ID_FIELD if own else "id", field])
    return _unique([clip_id or sample_id for clip_id, sample_id in zip(ids, sample_ids, strict=True)], values)


def samples_with(dataset: Any, ids: Sequence[str]) -> Any:
    """The samples of some clip ids, looked up by index; those that are not there are left out."""
    from bson import ObjectId

    keys = [ObjectId(clip_id) for clip_id in ids if ObjectId.is_valid(clip_id)]
    # samples without a motive_id are called by their sample id
    return dataset.match({"$or": [{ID_FIELD: {"$in": list(ids)}}, {"_id": {"$in": keys}, ID_FIELD: None}]})


def _unique(ids: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    known = dict(zip(ids, values, strict=True))
    if len(known) < len(ids):
        twice = [clip_id for clip_id, count in Counter(ids).items() if count > 1]
        raise InputError(
            f"{len(twice)} values of the field {ID_FIELD!r} belong to several samples ({twice[0]!r}, ...): "
            "clear the field of the copies, or import folders of different names"
        )
    return known


def choose_train(dataset: Any, selector: str | Any | None) -> Any:
    """The training clips: a view, or a tag or saved view by name; else the tag ``train``, else all but queries."""
    if selector is not None and not isinstance(selector, str):
        return selector
    if selector is not None:
        return _named(dataset, selector, datasets=False)
    tagged = dataset.match_tags(TRAIN_TAG)
    if _is_filled(tagged):
        return tagged
    return dataset.match_tags([QUERY_TAG, AVOID_TAG], bool=False)


def choose_queries(dataset: Any, selector: str | Any | None) -> Any:
    """The query clips: a view as given, a tag, saved view or second dataset by name; else the tags ``query`` and
    ``avoid``."""
    if selector is not None and not isinstance(selector, str):
        return selector
    if selector is not None:
        return _named(dataset, selector, datasets=True)
    tagged = dataset.match_tags([QUERY_TAG, AVOID_TAG])
    if not _is_filled(tagged):
        raise InputError(
            f"dataset {dataset_of(dataset).name!r} has no clips tagged {QUERY_TAG!r}: import clips of the motion "
            "you want (motive import FOLDER NAME --role query), or name a tag, saved view or dataset with --query"
        )
    return tagged


def _is_filled(view: Any) -> bool:
    """Whether there is a sample, without counting all."""
    return bool(view.limit(1).count())


def _named(dataset: Any, name: str, *, datasets: bool) -> Any:
    kind, _, rest = name.partition(":")
    kind, rest = (kind, rest) if kind in ("tag", "view", "dataset") and rest else ("", name)
    if kind in ("", "tag") and rest in dataset.distinct("tags"):
        return dataset.match_tags(rest)
    if kind in ("", "view") and dataset.has_saved_view(rest):
        return dataset.load_saved_view(rest)
    if datasets and kind in ("", "dataset") and fiftyone().dataset_exists(rest):
        return load_dataset(rest).view()
    options = f"tags: {', '.join(sorted(dataset.distinct('tags'))) or 'none'}; saved views: " + (
        ", ".join(dataset.list_saved_views()) or "none"
    )
    raise InputError(f"{name!r} is no tag{', saved view or dataset' if datasets else ' or saved view'} ({options})")
