"""The labels that samples carry, as sets of texts: what kind of clip is it?

Shapes: Q queries, N clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.dataset.captions import caption_field
from motive_fo.dataset.choose import AVOID_TAG, QUERY_TAG, TRAIN_TAG, records_of
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.imports import BROUGHT_FIELD, ID_FIELD
from motive_fo.errors import InputError

TAGS: Final = "tags"
_ROLES: Final = frozenset({TRAIN_TAG, QUERY_TAG, AVOID_TAG})

Labels = frozenset[str]


def labels_of(holders: Sequence[Any], by: str, ids: Set[str]) -> dict[str, Labels]:
    """Clip id -> its labels; clips without one are left out.

    Args:
        holders: datasets that hold the clips; of a clip that is in several the first one counts.
        by: a field with texts, numbers, yes and no, lists of these, or a Classification or Classifications; or
            ``tags``, of which those that say a clip's role (train, query, avoid) are no label.
        ids: the clips that are asked for.

    Raises:
        InputError: no holder has such a field, or it holds something else.
    """
    paths = [_path(holder, by) for holder in holders]
    if not any(paths):
        raise InputError(f"dataset {holders[0].name!r} has no field {by!r} with labels: {_known(holders[0])}")
    found: dict[str, Labels] = {}
    for holder, path in zip(holders, paths, strict=True):
        if path is None:
            continue
        for clip_id, value in zip(records_of(holder).ids, holder.values(path), strict=True):
            labels = _labels(value) - (_ROLES if path == TAGS else frozenset())
            if clip_id in ids and labels:
                found.setdefault(clip_id, labels)
    return found


def relevance(queries: Sequence[Labels], clips: Sequence[Labels]) -> npt.NDArray[np.bool_]:
    """Which clips share a label with which query: bool (Q, N)."""
    place = {label: n for n, label in enumerate(sorted(frozenset().union(*queries, *clips)))}

    def table(each: Sequence[Labels]) -> npt.NDArray[np.float32]:
        made = np.zeros((len(each), max(1, len(place))), np.float32)
        for row, labels in enumerate(each):
            made[row, [place[label] for label in labels]] = 1
        return made

    return np.asarray(table(queries) @ table(clips).T > 0)


def _path(holder: Any, by: str) -> str | None:
    """Where the labels are, None where the holder has none of that name."""
    field = None if by.startswith("frames.") else holder.get_field(by)
    if field is None:
        return None
    fo = fiftyone()
    if isinstance(field, fo.EmbeddedDocumentField):
        for kind, path in ((fo.Classification, f"{by}.label"), (fo.Classifications, f"{by}.classifications.label")):
            if issubclass(field.document_type, kind):
                return path
    inner = field.field if isinstance(field, fo.ListField) else field
    if isinstance(inner, fo.StringField | fo.IntField | fo.BooleanField):
        return by
    raise InputError(
        f"the field {by!r} of dataset {holder.name!r} holds {type(field).__name__}, no labels: {_known(holder)}"
    )


def label_fields(dataset: Any) -> list[str]:
    """Fields of a dataset that may hold labels: texts and Classifications that are not our own."""
    fo = fiftyone()
    internal = ("id", "filepath", "media_type", ID_FIELD, BROUGHT_FIELD, caption_field(dataset))
    return [
        name
        for name, field in dataset.get_field_schema().items()
        if name not in internal
        and (
            isinstance(field, fo.StringField)
            or (isinstance(field, fo.EmbeddedDocumentField) and issubclass(field.document_type, fo.Classification))
        )
    ]


def _known(holder: Any) -> str:
    return f"there are {', '.join([*label_fields(holder), TAGS])}"


def _labels(value: Any) -> Labels:
    if value is None:
        return frozenset()
    many: Iterable[Any] = value if isinstance(value, list | tuple | set) else [value]
    return frozenset(str(each) for each in many if each is not None and str(each))
