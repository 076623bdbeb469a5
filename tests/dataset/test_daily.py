"""Clips and queries that arrive every day: only they are computed, and the answers are those of all, on a real
database."""

from __future__ import annotations

import hashlib
import shutil
import uuid

import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import load_run
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus

EARLY, EARLY_QUERIES = 6, 2  # clips and queries of the first day; the others come on the second
PLACES = ("votes", "harmful_votes", "rank", "influence_rank", "hoof_rank", "selected", "influence", "whole_influence")


class Arrivals:
    """Two folders into which files are delivered, and a dataset that is brought up to date with them."""

    def __init__(self, folder, corpus):
        self._made = corpus
        self.clips, self.wanted = folder / "clips", folder / "wanted"

    def deliver(self, first, last, first_query, last_query):
        for target, files in (
            (self.clips, self._made.train[first:last]),
            (self.wanted, self._made.queries[first_query:last_query]),
        ):
            target.mkdir(exist_ok=True)
            for path in files:
                shutil.copy2(path, target / path.name)
                (target / path.name).with_suffix(".txt").write_text(f"take {path.stem}")

    def bring_up_to_date(self, name, run="motive", store=None):
        """What a job does every night; returns the reports of the imports, of motion and of the gradients."""
        imports = [motive_fo.import_clips(self.clips, name), motive_fo.import_clips(self.wanted, name, role="query")]
        motion = motive_fo.compute_motion(name, run, store=store)
        gradients = motive_fo.compute_gradients(name, run)
        motive_fo.score_influence(name, run)
        motive_fo.curate(name, run, selection={"budget": 0.3})
        return imports, motion, gradients


@pytest.fixture(scope="module")
def days(database, tmp_path_factory):
    """A dataset after its second day; the scores of the first day; a dataset on which everything came at once."""
    folder = tmp_path_factory.mktemp("daily")
    made = write_corpus(folder, train=8, queries=3, static=1, damaged=1, seed=5, size=(64, 64), seconds=1.25, fps=16)
    arrivals, names = Arrivals(folder, made), [f"daily-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    arrivals.deliver(0, EARLY, 0, EARLY_QUERIES)
    arrivals.bring_up_to_date(names[0])
    arrivals.bring_up_to_date(names[0], "monday")
    first = fiftyone().load_dataset(names[0])
    scores = {which: _scores(first, which) for which in ("motion", "whole")}
    before = (scores, _everything(first, "monday"), set(first.values("motive_id")))
    arrivals.deliver(EARLY, None, EARLY_QUERIES, None)
    reports = arrivals.bring_up_to_date(names[0])
    arrivals.bring_up_to_date(names[1])
    yield first, before, reports, fiftyone().load_dataset(names[1]), arrivals
    for name in names:
        fiftyone().delete_dataset(name)


def _scores(dataset, which="motion", run="motive"):
    scores_QN, queries, train = RunStore(load_run(dataset, run).store).read_scores(which)
    return {(q, n): scores_QN[i, j] for i, q in enumerate(queries) for j, n in enumerate(train)}


def _everything(dataset, run):
    """Bytes of the store, fields, views and record of a run."""
    record = load_run(dataset, run)
    store = RunStore(record.store).place.path
    files = {p.relative_to(store): hashlib.sha256(p.read_bytes()).hexdigest() for p in store.rglob("*") if p.is_file()}
    fields = {
        path: dict(zip(*dataset.exists(f"{run}.status").values(["motive_id", path]), strict=True))
        for path in dataset.get_field_schema(flat=True)
        if path.startswith(f"{run}.")
    }
    views = {name: dataset.load_saved_view(name).values("motive_id") for name in record.views}
    return files, fields, views, record


def _new(dataset, before):
    return set(dataset.values("motive_id")) - before[2]


def test_only_what_is_new_is_computed(days):
    dataset, before, (imports, motion, gradients), everything, _ = days
    late = _new(dataset, before)
    new_queries = {i for i in late if i.startswith("wanted/")}
    assert len(new_queries) == 1
    assert [report.added for report in imports] == [len(late) - 1, 1]
    assert imports[0].unchanged == EARLY
    assert motion.clips == len(dataset) == len(everything)
    assert motion.computed == len(late)
    assert (gradients["train"].computed, gradients["query"].computed) == (len(late) - 1, 1)


def test_cosines_of_old_pairs_are_the_same_to_the_bit(days):
    dataset, (known, *_), *_ = days
    for which, old in known.items():
        new = _scores(dataset, which)
        assert len(new) > len(old) > 0
        assert np.array_equal([new[pair] for pair in old], list(old.values()), equal_nan=True)


@pytest.mark.parametrize("which", ["motion", "whole"])
def test_scores_are_those_of_all_clips_at_once(days, which):
    dataset, _, _, everything, _ = days
    ours, theirs = _scores(dataset, which), _scores(everything, which)
    assert ours.keys() == theirs.keys()
    assert np.array_equal([ours[p] for p in theirs], list(theirs.values()), equal_nan=True)


@pytest.mark.parametrize("field", [*PLACES, "status", "motion_mean", "motion_curve", "gradient_norm", "loss"])
def test_fields_are_those_of_all_clips_at_once(days, field):
    dataset, _, _, everything, _ = days
    both = (dataset.values(["motive_id", f"motive.{field}"]), everything.values(["motive_id", f"motive.{field}"]))
    ours, theirs = (dict(zip(*columns, strict=True)) for columns in both)
    assert ours == theirs
    assert any(value is not None for value in ours.values())


def test_views_are_those_of_all_clips_at_once(days):
    dataset, before, _, everything, _ = days
    names = load_run(everything, "motive").views
    assert names
    for name in names:
        ours, theirs = (each.load_saved_view(name).values("motive_id") for each in (dataset, everything))
        assert sorted(ours) == sorted(theirs), name
    assert dataset.load_saved_view("motive: selection").values("motive_id") == everything.load_saved_view(
        "motive: selection"
    ).values("motive_id")
    assert _new(dataset, before) & set(dataset.load_saved_view("motive: selection").values("motive_id"))


def test_another_run_stays_as_it_was(days):
    dataset, before, *_ = days
    assert _everything(dataset, "monday") == before[1]


def test_a_run_that_branches_off_a_store_computes_only_what_is_new(days, tmp_path):
    dataset, before, _, everything, arrivals = days
    place = tmp_path / "tuesday.zarr"
    merge_stores(place, [load_run(dataset, "monday").store])
    _, motion, gradients = arrivals.bring_up_to_date(dataset.name, "tuesday", place)
    late = _new(dataset, before)
    assert motion.computed == len(late)
    assert gradients["train"].computed + gradients["query"].computed == len(late)
    ours, theirs = _scores(dataset, run="tuesday"), _scores(everything)
    assert np.array_equal([ours[p] for p in theirs], list(theirs.values()), equal_nan=True)
    assert _everything(dataset, "monday") == before[1]


def test_a_day_without_arrivals_writes_nothing(days):
    dataset, _, _, _, arrivals = days
    stamps = dataset.values("last_modified_at")
    imports, motion, gradients = arrivals.bring_up_to_date(dataset.name)
    assert (motion.computed, gradients["train"].computed, gradients["query"].computed) == (0, 0, 0)
    assert [report.added + report.updated for report in imports] == [0, 0]
    assert dataset.values("last_modified_at") == stamps
