"""Everything a run knows of its training clips as one table, for pandas, spreadsheets and papers: CSV or Parquet.

Written block by block, beside the file and renamed when complete. Text is written exactly as it is. ``Choice:`` a
caption that begins with ``=``, ``+``, ``-`` or ``@`` is not disarmed with a quote mark for spreadsheets that would
take it for a formula: the table would no longer say what the clip is trained with. Parquet has no such trap.
"""

from __future__ import annotations

import csv
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from motive_fo.dataset.choose import choose_train, records_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone
from motive_fo.dataset.curation import HeldScores
from motive_fo.dataset.fields import FIELDS
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.errors import InputError, MissingDependencyError, MotiveError
from motive_fo.progress import Progress, silent
from motive_fo.store.place import place_of

BLOCK: Final = 4096  # clips read from the database and written at a time

_TEXTS: Final = ("id", "path", "caption")
_KINDS: Final = {"StringField": "string", "FloatField": "float64", "IntField": "int64"}

Columns = dict[str, list[Any] | npt.NDArray[Any]]


@dataclass(frozen=True)
class ScoreReport:
    """What was written.

    Attributes:
        file: its path.
        rows: without the header.
        columns: their names, in order.
        queries: queries whose cosines it holds; 0 before ``score_influence``.
    """

    file: str
    rows: int
    columns: list[str]
    queries: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def write_scores(
    dataset: Any,
    file: str | Path,
    run: str = "motive",
    *,
    long: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ScoreReport:
    """Write all scores of a run's training clips. Complete or as before.

    One row per clip: id, path, caption, every field of the run but the motion curve, and one column ``cosine QUERY``
    per query with the raw motion cosine. Unknown is empty (null in Parquet).

    Args:
        dataset: a dataset or its name; a view writes its own clips instead of the run's training clips.
        file: ``.csv`` (UTF-8) or ``.parquet``.
        long: one row per clip and query instead: id, query, cosine, whole_cosine.
        overwrite: replace the file.

    Raises:
        InputError: another suffix, a file that exists, no such run; ``long`` before influence was scored.
        MissingDependencyError: Parquet without pyarrow.
    """
    file = Path(file).expanduser()
    open_table = _writer_for(file)
    if file.exists() and not overwrite:
        raise InputError(f"{file} exists: choose another name, or replace it (--overwrite)")
    samples = as_samples(dataset)
    record = load_run(dataset_of(samples), run)
    view = choose_train(samples, record.train) if samples is dataset_of(samples) else samples
    chosen = records_of(view, record)
    cosines = _Cosines.read(record)
    if long and cosines is None:
        raise InputError(f"run {run!r} has no influence yet, so there is no cosine to write: motive influence first")
    kinds = _long_kinds() if long else _wide_kinds(dataset_of(samples), run, cosines)
    rows = 0
    progress("scores", 0, len(chosen.records))
    with _complete_or_absent(file) as part, open_table(part, kinds) as table:
        for first in range(0, len(chosen.records), BLOCK):
            records = chosen.records[first : first + BLOCK]
            ids = [r.id for r in records]
            if long and cosines is not None:
                block = cosines.long(ids)
            else:
                texts = {"id": ids, "path": [str(r.path) for r in records], "caption": [r.caption for r in records]}
                fields = _field_values(view, [chosen.sample_ids[i] for i in ids], run, list(kinds))
                block = {**texts, **fields, **(cosines.wide(ids) if cosines is not None else {})}
            table.write({name: block[name] for name in kinds})
            rows += len(next(iter(block.values())))
            progress("scores", first + len(records), len(chosen.records))
    return ScoreReport(str(file.absolute()), rows, list(kinds), 0 if cosines is None else len(cosines.queries))


def failed_clips(dataset: Any, run: str = "motive") -> list[tuple[str, str, str]]:
    """Id, code and message of every clip of a run that failed, queries in a second dataset included."""
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    fo = fiftyone()
    holders = [dataset]
    if record.query_dataset and fo.dataset_exists(record.query_dataset):
        holders.append(fo.load_dataset(record.query_dataset))
    failed = []
    for holder in holders:
        view = holder.match(fo.ViewField(f"{run}.status") == "failed")
        ids = [r.id for r in records_of(view).records]
        codes, messages = (view.values(f"{run}.{name}") for name in ("code", "error"))
        failed += [(i, code or "", text or "") for i, code, text in zip(ids, codes, messages, strict=True)]
    return failed


# -- columns ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cosines:
    """The last scoring: (Q, N) raw cosines, with and without the motion mask, each read when it is asked for."""

    scores: HeldScores
    queries: list[str]
    place: dict[str, int]

    @classmethod
    def read(cls, record: RunRecord) -> _Cosines | None:
        if not place_of(record.store).is_there():
            return None
        store = open_store(record)
        if not store.has_table("influence"):
            return None
        rows = store.scores("motion")
        held = HeldScores({"motion": rows, "whole": store.scores("whole", axes=rows)})
        return cls(held, rows.query_ids, {clip_id: n for n, clip_id in enumerate(rows.train_ids)})

    def wide(self, ids: list[str]) -> Columns:
        motion_QN = self._block("motion", ids)
        return {_cosine_column(query): motion_QN[q] for q, query in enumerate(self.queries)}

    def long(self, ids: list[str]) -> Columns:
        """Clip by clip, each with its queries, of the clips that were scored at all."""
        known = [clip_id for clip_id in ids if clip_id in self.place]
        motion_QN, whole_QN = self._block("motion", known), self._block("whole", known)
        return {
            "id": [clip_id for clip_id in known for _ in self.queries],
            "query": self.queries * len(known),
            "cosine": motion_QN.T.ravel(),
            "whole_cosine": whole_QN.T.ravel(),
        }

    def _block(self, kind: str, ids: list[str]) -> npt.NDArray[np.float32]:
        """One kind of cosines of some clips; NaN for those that were not scored."""
        places = np.array([self.place.get(clip_id, -1) for clip_id in ids], np.int64)
        found = places >= 0
        block = np.full((len(self.queries), len(ids)), np.nan, np.float32)
        block[:, found] = self.scores[kind][:, places[found]]
        return block


def _cosine_column(query: str) -> str:
    return f"cosine {query}"


def _wide_kinds(dataset: Any, run: str, cosines: _Cosines | None) -> dict[str, str]:
    """Column -> type, in the order written."""
    present = dataset.get_field_schema(flat=True)
    fields = {n: _KINDS[k] for n, (k, _) in FIELDS.items() if k in _KINDS and f"{run}.{n}" in present}
    queries = {} if cosines is None else dict.fromkeys(map(_cosine_column, cosines.queries), "float32")
    return {**dict.fromkeys(_TEXTS, "string"), **fields, **queries}


def _long_kinds() -> dict[str, str]:
    return {"id": "string", "query": "string", "cosine": "float32", "whole_cosine": "float32"}


def _field_values(view: Any, sample_ids: list[str], run: str, names: list[str]) -> Columns:
    """The run's fields of some samples, in the order of their ids."""
    names = [name for name in names if name in FIELDS]
    block = dataset_of(view).select(sample_ids)
    found, *columns = block.values(["id", *(f"{run}.{name}" for name in names)])
    place = {sample_id: n for n, sample_id in enumerate(found)}
    order = [place[sample_id] for sample_id in sample_ids]
    return {name: [column[n] for n in order] for name, column in zip(names, columns, strict=True)}


# -- files ------------------------------------------------------------------------------------------------------------


class _TableFile(Protocol):
    """A table being written."""

    def write(self, columns: Columns) -> None: ...


def _writer_for(file: Path) -> Callable[[Path, dict[str, str]], Any]:
    if file.suffix.lower() == ".csv":
        return _open_csv
    if file.suffix.lower() != ".parquet":
        raise InputError(f"{file.name} is neither .csv nor .parquet: the suffix says what is written")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"Parquet needs pyarrow ({error}): pip install 'motive-fo[parquet]', or write a .csv"
        ) from error
    return _open_parquet


@contextmanager
def _open_csv(path: Path, kinds: dict[str, str]) -> Iterator[_TableFile]:
    with path.open("w", encoding="utf-8", newline="") as stream:
        yield _CsvTable(csv.writer(stream, lineterminator="\n"), list(kinds))


class _CsvTable:
    def __init__(self, writer: Any, names: list[str]) -> None:
        self._writer = writer
        writer.writerow(names)

    def write(self, columns: Columns) -> None:
        self._writer.writerows(zip(*map(_csv_cells, columns.values()), strict=True))


def _csv_cells(values: list[Any] | npt.NDArray[Any]) -> list[Any]:
    """Unknown as an empty cell; a float32 in the fewest digits that read back to it."""
    if isinstance(values, np.ndarray):
        return [text if text != "nan" else "" for text in values.astype(str).tolist()]
    return [None if value is None or value != value else value for value in values]


@contextmanager
def _open_parquet(path: Path, kinds: dict[str, str]) -> Iterator[_TableFile]:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in kinds.items()])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        yield _ParquetTable(writer, schema)


class _ParquetTable:
    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema

    def write(self, columns: Columns) -> None:
        import pyarrow

        arrays = [
            pyarrow.array(values, field.type, from_pandas=True)
            for values, field in zip(columns.values(), self._schema, strict=True)
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))


@contextmanager
def _complete_or_absent(file: Path) -> Iterator[Path]:
    """A path beside the file that takes its name when everything is written, and is removed otherwise."""
    part = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(file)
    except MotiveError:
        raise  # some are OSErrors too
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from error
    finally:
        if part.exists():
            part.unlink()
