"""Which field of a dataset holds its captions: the one a run names, else the usual one that holds text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from motive_fo.config import AttributionConfig, plain
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.listing import CAPTION_KEYS
from motive_fo.dataset.run_record import RunRecord, list_runs, load_run
from motive_fo.errors import InputError
from motive_fo.pipeline.record import ClipRecord, had_caption
from motive_fo.store.run_store import RunStore

CAPTION_FIELD: Final = "caption"
"""The field an import makes."""

_USUAL: Final = (CAPTION_FIELD, *(key for key in CAPTION_KEYS if key != CAPTION_FIELD))
_OURS: Final = ("filepath", "motive_id", "motive_caption")


def caption_field(dataset: Any, record: RunRecord | None = None) -> str | None:
    """The field that captions are read from, or None where nothing is called like one.

    Args:
        record: of the run they are read for, whose field it is. Without one it is the field that the dataset's runs
            name, if they agree; else the first of ``caption``, ``prompt``, ``text`` that holds text.

    Raises:
        InputError: the dataset does not have the run's field.
    """
    if record is None:
        named = {load_run(dataset, run).section("attribution").caption_field for run in list_runs(dataset)} - {None}
        return next((name for name in named if len(named) == 1 and _is_text(dataset, name)), None) or _found(dataset)
    named_by_run: str | None = record.section("attribution").caption_field
    second = dataset.name == record.query_dataset  # which may call it otherwise
    if named_by_run is None or (second and not _is_text(dataset, named_by_run)):
        return _found(dataset)
    require_text_field(dataset, named_by_run, f", from which run {record.run!r} reads its captions")
    return named_by_run


def require_text_field(dataset: Any, name: str, what: str = "") -> None:
    """Raise ``InputError``, which lists the fields there are, where a dataset has no text field of this name."""
    if not _is_text(dataset, name):
        raise InputError(f"dataset {dataset.name!r} has no text field {name!r}{what}: {_way_out(dataset)}")


def usual_fields(dataset: Any) -> list[str]:
    """Those of ``caption``, ``prompt``, ``text`` that hold text, in this order."""
    samples = dataset._sample_collection
    present = [name for name in _USUAL if _is_text(dataset, name)]
    return [name for name in present if samples.find_one({name: {"$regex": r"\S"}}, ["_id"]) is not None]


def settle_attribution(
    record: RunRecord, given: AttributionConfig | Mapping[str, Any] | None, preset: str | None
) -> AttributionConfig:
    """The attribution settings to use, noted in the record; arguments and errors as for its ``settle``. A run goes on
    with the field of captions it was begun with where none is given."""
    known = record.section("attribution").caption_field
    config: AttributionConfig = record.settle("attribution", given, preset)
    if config.caption_field is None and known is not None:
        config = replace(config, caption_field=known)
        record.settings["attribution"] = plain(config)
    return config


def settle_caption_field(dataset: Any, record: RunRecord) -> list[str]:
    """Note in the record which field captions are read from, where it does not say yet and one holds text.

    Returns:
        what a user should know of the choice. Raises ``InputError`` where the dataset does not have the run's field.
    """
    config: AttributionConfig = record.section("attribution")
    if config.caption_field is not None:
        caption_field(dataset, record)
        return []
    name = caption_field(dataset)
    filled = usual_fields(dataset)
    if not filled and name in _USUAL:  # one that holds nothing yet need not be the one that will
        return []
    record.settings["attribution"] = plain(replace(config, caption_field=name))
    others = [each for each in filled if each != name]
    if not others:
        return []
    return [f"captions are read from the field {name!r}; there is text in {', '.join(others)} too: --caption-field"]


def caption_notes(dataset: Any | None, record: RunRecord, role: str, records: Sequence[ClipRecord]) -> list[str]:
    """How many of the clips have no caption, if any. ``dataset`` holds them, None where it is not made yet."""
    without = sum(1 for each in records if not each.caption.strip())
    if not without:
        return []
    if dataset is None:
        return [f"{without} of {len(records)} {role} clips have no caption"]
    field = caption_field(dataset, record)
    where = f" in the field {field!r}" if field else ""
    others = [name for name in usual_fields(dataset) if name != field]
    elsewhere = f"; there is text in {', '.join(others)}" if others else ""
    hint = f"{elsewhere}: --caption-field names another field" if without == len(records) or others else ""
    return [f"{without} of {len(records)} {role} clips have no caption{where}{hint}"]


def require_captions_kept(
    dataset: Any, record: RunRecord, store: RunStore, role: str, records: Sequence[ClipRecord]
) -> None:
    """Raise ``InputError`` where every clip was computed with a caption and has none now: the field was renamed or
    emptied, and all of them would be computed again. A single clip may have been emptied on purpose."""
    if not store.has_table(role):
        return
    before = had_caption(store.sketches("query" if role == "query" else "train"), records)
    if len(before) > 1 and not any(each.caption.strip() for each in before):
        raise InputError(
            f"all {len(before)} {role} clips that run {record.run!r} computed with a caption have none in the field "
            f"{caption_field(dataset, record)!r} now: {_way_out(dataset)}, or begin another run"
        )


def _found(dataset: Any) -> str | None:
    present = [name for name in _USUAL if _is_text(dataset, name)]
    return present[0] if len(present) == 1 else next(iter([*usual_fields(dataset), *present]), None)


def _is_text(dataset: Any, name: str) -> bool:
    return isinstance(dataset.get_field_schema().get(name), fiftyone().StringField)


def _way_out(dataset: Any) -> str:
    known = [name for name in dataset.get_field_schema(ftype=fiftyone().StringField) if name not in _OURS]
    return f"name the field of the captions (motive gradients --caption-field), one of {', '.join(known) or 'none'}"
