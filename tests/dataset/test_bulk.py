"""Bulk writes, indexes and block-wise reading of whole datasets, on a real database."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest

import motive_fo
from motive_fo.config import SelectionConfig
from motive_fo.dataset import bulk
from motive_fo.dataset.choose import ids_of, records_of, samples_with
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.curation import ScoredClips
from motive_fo.dataset.fields import INDEXED, declare_fields, write_fields
from motive_fo.dataset.imports import import_clips
from motive_fo.dataset.run_record import load_run
from motive_fo.dataset.views import CAMERA_ONLY, MOST_DYNAMIC
from motive_fo.errors import InputError
from motive_fo.influence.curation import select
from motive_fo.store.run_store import RunStore
from motive_fo.store.scores import ScoreRows

RUN = "motive"


@pytest.fixture
def plain(database, name):
    """Ten samples without videos, with the fields of a run and no values."""
    fo = fiftyone()
    dataset = fo.Dataset(name)
    dataset.add_samples([fo.Sample(f"/nowhere/{n}.mp4") for n in range(10)], progress=False)
    declare_fields(dataset, RUN)
    yield dataset
    fo.delete_dataset(name)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(bulk, "BLOCK", 3)


def test_values_of_every_kind_are_written_as_their_fields_have_them(plain, small_blocks):
    ids = plain.values("id")
    columns = {
        "influence": np.where(np.arange(10) == 3, np.nan, np.linspace(0, 100, 10)),
        "rank": np.where(np.arange(10) < 5, np.nan, np.arange(10.0)),
        "cuts": np.arange(10, dtype=np.int64),
        "status": ["scored"] * 9 + [None],
        "motion_curve": [[0.5, float(n)] for n in range(10)],
    }
    assert write_fields(plain, RUN, ids, columns) == 10
    influence, rank, cuts, status, curves = plain.values([f"{RUN}.{name}" for name in columns])
    assert influence[3] is None
    assert influence[4] == columns["influence"][4]
    assert rank == [None] * 5 + [5, 6, 7, 8, 9]
    assert all(type(value) is int for value in [*rank[5:], *cuts])
    assert status == columns["status"]
    assert curves == columns["motion_curve"]
    plain.reload()
    assert plain.last()[RUN].status is None  # the field is there, without a value


def test_only_what_changed_is_written(plain, small_blocks):
    ids = plain.values("id")
    write_fields(plain, RUN, ids, {"influence": np.arange(10.0), "status": ["scored"] * 10})
    stamps = plain.values("last_modified_at")
    assert write_fields(plain, RUN, ids, {"influence": np.arange(10.0), "status": ["scored"] * 10}) == 0
    assert plain.values("last_modified_at") == stamps
    words = ["scored"] * 9 + ["failed"]
    assert write_fields(plain, RUN, ids, {"influence": np.arange(10.0), "status": words}) == 1
    assert [a == b for a, b in zip(stamps, plain.values("last_modified_at"), strict=True)] == [True] * 9 + [False]
    assert plain.values(f"{RUN}.status") == words


def test_some_samples_are_written_and_no_others(plain, small_blocks):
    ids = plain.values("id")
    write_fields(plain, RUN, ids, {"loss": np.arange(10.0)})
    gone = ids[7]
    plain.delete_samples([gone])
    assert write_fields(plain, RUN, [ids[8], gone, ids[2]], {"loss": np.array([1.5, 2.5, np.nan])}) == 2
    assert plain.values(f"{RUN}.loss") == [0, 1, None, 3, 4, 5, 6, 1.5, 9]


def test_a_sample_in_hand_sees_what_was_written(plain):
    sample = plain.first()
    write_fields(plain, RUN, plain.values("id"), {"loss": np.arange(10.0) + 1})
    assert sample[RUN].loss == 1


def test_progress_is_told_of_what_takes_more_than_a_block(plain, monkeypatch):
    told = []
    ids = plain.values("id")
    write_fields(plain, RUN, ids, {"loss": np.arange(10.0)}, lambda *what: told.append(what))
    assert told == []
    monkeypatch.setattr(bulk, "BLOCK", 4)
    write_fields(plain, RUN, ids, {"loss": np.arange(10.0)}, lambda *what: told.append(what))
    assert told == [(f"fields of {RUN}", done, 10) for done in (0, 4, 8, 10)]


def test_an_unknown_field_is_refused(plain):
    with pytest.raises(KeyError, match="no field of a run"):
        write_fields(plain, RUN, plain.values("id"), {"fame": np.arange(10.0)})


# -- indexes ----------------------------------------------------------------------------------------------------------


def _plan(view):
    from fiftyone.core.odm import get_db_conn

    collection = view._dataset._sample_collection_name
    command = {"aggregate": collection, "pipeline": view._pipeline(), "cursor": {}}
    return json.dumps(get_db_conn().command("explain", command, verbosity="queryPlanner"), default=str)


def test_saved_views_and_filters_are_answered_by_an_index(computed):
    fo = fiftyone()
    field = fo.ViewField
    views = {name: computed.load_saved_view(name) for name in load_run(computed, RUN).views}
    views |= {
        "influence": computed.match(field(f"{RUN}.influence") > 90),
        "motion": computed.match((field(f"{RUN}.motion_mean") > 0.5) & (field(f"{RUN}.motion_mean") < 2)),
        "sorted": computed.sort_by(f"{RUN}.rank"),
        "tagged": computed.match_tags("query"),
        "by id": computed.match(field("motive_id") == computed.first()["motive_id"]),
        "by ids": samples_with(computed, computed.values("motive_id")[:3]),
    }
    assert len(views) > 10
    for name, view in views.items():
        plan = _plan(view)
        assert "IXSCAN" in plan, name
        assert "COLLSCAN" not in plan, name
    assert "COLLSCAN" in _plan(computed.match(field("caption") == "x"))


@pytest.mark.parametrize("kind", [CAMERA_ONLY, MOST_DYNAMIC])
def test_views_of_motion_are_counted_without_a_look_at_the_clips(computed, kind):
    from fiftyone.core.odm import get_db_conn

    view = computed.load_saved_view(f"{RUN}: {kind}")
    pipeline = [*view._pipeline(), {"$count": "clips"}]
    command = {"aggregate": computed._sample_collection_name, "pipeline": pipeline, "cursor": {}}
    found = get_db_conn().command("explain", command, verbosity="queryPlanner")
    found = found["stages"][0]["$cursor"] if "stages" in found else found
    plan = json.dumps(found["queryPlanner"]["winningPlan"], default=str)
    assert "IXSCAN" in plan
    assert "FETCH" not in plan


def test_a_run_takes_its_indexes_along(dataset):
    motive_fo.compute_motion(dataset)
    made = set(dataset.list_indexes())
    assert {f"{RUN}.{name}" for name in ("status", "motion_mean", "camera_share", "dynamic_score")} <= made
    assert {"motive_id", "tags"} <= made
    motive_fo.delete_run(dataset)
    assert not [name for name in dataset.list_indexes() if name.startswith(f"{RUN}.")]
    assert {"motive_id", "tags"} <= set(dataset.list_indexes())


def test_every_indexed_field_has_an_index_after_curation(computed):
    assert {f"{RUN}.{name}" for name in INDEXED} <= set(computed.list_indexes())


# -- whole datasets ---------------------------------------------------------------------------------------------------


def test_imports_in_blocks_are_imports_at_once(database, corpus, name, small_blocks):
    source = corpus.train_metadata.parent
    first = import_clips(source, name)
    dataset = fiftyone().load_dataset(name)
    assert len(dataset) == first.added > 3
    again = import_clips(source, name, role="other")
    assert (again.added, again.updated, again.unchanged) == (0, first.added, 0)
    assert set(dataset.match_tags("other").values("id")) == set(dataset.values("id"))
    last = import_clips(source, name, role="other")
    assert (last.added, last.updated, last.unchanged) == (0, 0, first.added)
    copies = corpus.query_metadata.parent
    dataset.set_values("motive_id", [f"taken/{path.name}" for path in corpus.train])
    dataset.set_values("motive_id", {dataset.last().id: f"again/{corpus.queries[-1].name}"}, key_field="id")
    with pytest.raises(InputError, match="would take ids that other clips have"):
        import_clips(copies, name, name="again")
    fiftyone().delete_dataset(name)


def test_ids_are_those_of_the_records(plain, computed):
    for dataset in (plain, computed):
        assert ids_of(dataset) == records_of(dataset).sample_ids
        some = records_of(dataset).ids[1:4]
        assert set(records_of(samples_with(dataset, [*some, "nobody", str(uuid.uuid4())])).ids) == set(some)


def test_a_selection_reads_scores_a_query_at_a_time(computed, monkeypatch):
    record = load_run(computed, RUN)
    scored = ScoredClips.read(computed, record, RunStore(record.store))
    held = {kind: scored.scores[kind] for kind in ("motion", "whole")}
    assert scored.scores.nbytes == sum(scores.nbytes for scores in held.values())

    def refuse(rows):
        raise AssertionError("all scores were read at once")

    monkeypatch.setattr(ScoreRows, "read", refuse)
    lean = ScoredClips.read(computed, record, RunStore(record.store))
    for kind in ("motion", "whole", "difference"):
        config = SelectionConfig(budget=0.25, score=kind)
        ours, theirs = select(lean.candidates(config), config), select(scored.candidates(config), config)
        assert ours.chosen.ids == theirs.chosen.ids
        assert ours.coverage == theirs.coverage
        assert np.array_equal(ours.ranking.rank, theirs.ranking.rank)
    assert lean.scores.nbytes == 0
    order = np.argsort(-(held["motion"] - held["whole"])[0], kind="stable")
    alone = SelectionConfig(budget=0.25, score="difference", queries=(scored.queries[0].id,))
    chosen = select(lean.candidates(alone), alone).chosen.ids
    known = [scored.ids[n] for n in order if np.isfinite(held["motion"][0, n] - held["whole"][0, n])]
    assert chosen == known[: len(chosen)]
