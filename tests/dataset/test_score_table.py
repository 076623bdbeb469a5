"""All scores in a file: every number as the dataset and the store have it, complete or absent."""

import csv
import json
import math
import sys

import numpy as np
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.dataset import score_table
from motive_fo.dataset.fields import FIELDS
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import InputError, MissingDependencyError
from motive_fo.store.run_store import RunStore


def _rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def scores(computed):
    """(Q, N) cosines, query ids and training ids, as the store has them."""
    return RunStore(load_run(computed, "motive").store).read_scores("motion")


def test_csv_says_what_the_dataset_and_the_store_say(computed, scores, tmp_path):
    report = motive_fo.write_scores(computed, tmp_path / "all.csv")
    rows = _rows(tmp_path / "all.csv")
    train = computed.match_tags("train")
    assert report.rows == len(rows) == len(train)
    assert report.columns == list(rows[0])
    assert [row["id"] for row in rows] == train.values("motive_id")
    assert [row["path"] for row in rows] == train.values("filepath")
    assert [row["caption"] for row in rows] == train.values("caption")
    for name, (kind, _) in FIELDS.items():
        if kind == "ListField":
            continue
        values = train.values(f"motive.{name}")
        read = {"FloatField": float, "IntField": int, "StringField": str}[kind]
        assert [read(row[name]) if row[name] else None for row in rows] == [
            v or None if read is str else v for v in values
        ]
    scores_QN, queries, ids = scores
    assert report.queries == len(queries) == 2
    for query, row_N in zip(queries, scores_QN, strict=True):
        written = {row["id"]: row[f"cosine {query}"] for row in rows}
        for clip_id, cosine in zip(ids, row_N, strict=True):
            if np.isfinite(cosine):
                assert np.float32(written[clip_id]) == cosine, "read back bit by bit"
            else:
                assert written[clip_id] == ""
        best = next(iter(motive_fo.query_scores(computed, query)))
        assert max((r for r in rows if r[f"cosine {query}"]), key=lambda r: float(r[f"cosine {query}"]))["id"] == best


def test_parquet_has_types_and_nulls(computed, scores, tmp_path):
    motive_fo.write_scores(computed, tmp_path / "all.parquet")
    table = parquet.read_table(tmp_path / "all.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types["id"] == "string"
    assert types["votes"] == "int64"
    assert types["influence"] == "double"
    scores_QN, queries, ids = scores
    column = f"cosine {queries[0]}"
    assert types[column] == "float"
    values = dict(zip(table["id"].to_pylist(), table[column].to_numpy(zero_copy_only=False), strict=True))
    np.testing.assert_array_equal([values[i] for i in ids], scores_QN[0])
    unknown = int((~np.isfinite(scores_QN[0])).sum())
    assert unknown > 0
    assert table[column].null_count == unknown, "unknown is null, not a number that is none"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_long_has_one_row_per_clip_and_query(computed, scores, tmp_path, kind):
    path = tmp_path / f"long.{kind}"
    report = motive_fo.write_scores(computed, path, long=True)
    rows = _rows(path) if kind == "csv" else parquet.read_table(path).to_pylist()
    scores_QN, queries, ids = scores
    whole_QN, _, _ = RunStore(load_run(computed, "motive").store).read_scores("whole")
    assert report.rows == len(rows) == len(ids) * len(queries)
    for row in rows:
        at = queries.index(row["query"]), ids.index(row["id"])
        for name, matrix in (("cosine", scores_QN), ("whole_cosine", whole_QN)):
            if math.isfinite(matrix[at]):
                assert np.float32(row[name]) == matrix[at]
            else:
                assert row[name] in (None, "")


@pytest.mark.parametrize("long", [False, True])
def test_blocks_change_nothing(computed, tmp_path, monkeypatch, long):
    motive_fo.write_scores(computed, tmp_path / "whole.csv", long=long)
    monkeypatch.setattr(score_table, "BLOCK", 4)
    calls = []
    motive_fo.write_scores(computed, tmp_path / "blocks.csv", long=long, progress=lambda *call: calls.append(call))
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "blocks.csv").read_bytes()
    assert [done for _, done, _ in calls] == [0, 4, 8, 12, 15]


def test_text_is_exact_whatever_it_holds(dataset, tmp_path):
    """Commas, quotes, line ends, and what a spreadsheet would take for a formula."""
    odd = ['=HYPERLINK("http://x","y")', "+1", "-1", "@a", 'a "quoted", word\nand a line', "", "nan"]
    motive_fo.compute_motion(dataset)
    samples = dataset.match_tags("train").limit(len(odd))
    samples.set_values("caption", odd)
    for kind in ("csv", "parquet"):
        motive_fo.write_scores(dataset, tmp_path / f"t.{kind}")
    assert [row["caption"] for row in _rows(tmp_path / "t.csv")][: len(odd)] == odd
    assert parquet.read_table(tmp_path / "t.parquet")["caption"].to_pylist()[: len(odd)] == odd


def test_before_influence_there_are_no_cosines(dataset, tmp_path):
    motive_fo.compute_motion(dataset)
    report = motive_fo.write_scores(dataset, tmp_path / "motion.csv")
    assert report.queries == 0
    assert not [name for name in report.columns if name.startswith("cosine")]
    with pytest.raises(InputError, match="has no influence yet"):
        motive_fo.write_scores(dataset, tmp_path / "long.csv", long=True)


def test_a_file_is_complete_or_absent(computed, tmp_path, monkeypatch):
    path = tmp_path / "all.csv"
    path.write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        motive_fo.write_scores(computed, path)

    def fail(*call):
        if call[1]:
            raise RuntimeError("stopped half way")

    monkeypatch.setattr(score_table, "BLOCK", 4)
    for target in (path, tmp_path / "new.parquet"):
        with pytest.raises(RuntimeError, match="half way"):
            motive_fo.write_scores(computed, target, overwrite=True, progress=fail)
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["all.csv"]
    motive_fo.write_scores(computed, path, overwrite=True)
    assert len(_rows(path)) == 15


def test_wrong_use_says_the_way_out(computed, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"neither \.csv nor \.parquet"):
        motive_fo.write_scores(computed, tmp_path / "all.xlsx")
    with pytest.raises(InputError, match="has no run 'x'"):
        motive_fo.write_scores(computed, tmp_path / "all.csv", "x")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        motive_fo.write_scores(computed, tmp_path / "file" / "all.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"motive-fo\[parquet\]"):
        motive_fo.write_scores(computed, tmp_path / "all.parquet")


def test_the_command(computed, tmp_path):
    path = tmp_path / "all.csv"
    result = CliRunner().invoke(main, ["scores", computed.name, str(path), "--json"])
    assert json.loads(result.stdout)["rows"] == 15
    again = CliRunner().invoke(main, ["scores", computed.name, str(path)])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
