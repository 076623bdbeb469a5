"""Queries to follow and to avoid, their groups, and what a selection makes of them, on a real database."""

from __future__ import annotations

import shutil
import uuid

import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.curation import selection_of
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import ConfigError, InputError, MotiveError
from motive_fo.pipeline.queries import PROMPTS, generate_queries, write_template
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture(scope="module")
def scored(database, tmp_path_factory):
    """16 training clips, 4 queries in two groups and one to avoid, scored; each test curates as it likes."""
    folder = tmp_path_factory.mktemp("curation")
    made = write_corpus(folder, train=16, queries=5, static=1, damaged=1, seed=4, size=(64, 64), seconds=1.25, fps=16)
    name = f"curation-{uuid.uuid4().hex[:8]}"
    wanted = folder / "wanted"
    for group, path in zip(("one", "one", "two", "two"), made.queries, strict=False):
        (wanted / group).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, wanted / group / path.name)
    (folder / "bad").mkdir()
    shutil.copy(made.queries[4], folder / "bad" / "melting.mp4")
    motive_fo.import_clips(made.train_metadata.parent, name)
    motive_fo.add_queries(name, wanted)
    motive_fo.add_queries(name, folder / "bad", avoid=True)
    motive_fo.compute_gradients(name)
    motive_fo.score_influence(name)
    return fiftyone().load_dataset(name)


def _scores(samples, which="motion"):
    return RunStore(load_run(samples, "motive").store).read_scores(which)


def test_subfolders_are_groups_and_the_bad_are_avoided(scored):
    queries = motive_fo.list_queries(scored)
    assert [(q.group, q.avoid) for q in queries] == [("one", False)] * 2 + [("two", False)] * 2 + [(None, True)]
    assert queries[-1].id == "bad/melting.mp4"
    assert set(scored.match_tags("avoid").values("motive.status")) == {"sketched"}


def test_influence_is_of_what_is_followed_and_apart_of_what_is_avoided(scored):
    scores_QN, queries, train = _scores(scored)
    bad = queries.index("bad/melting.mp4")
    moving = np.isfinite(scores_QN).all(0)
    order = np.argsort(scores_QN[bad, moving])
    ranks = dict(zip(np.asarray(train)[moving][order], np.linspace(0, 100, moving.sum()), strict=True))
    for sample in scored.match_tags("train"):
        assert sample.motive.avoid_influence == (
            pytest.approx(ranks[sample.motive_id]) if sample.motive_id in ranks else None
        )
    kept = np.delete(scores_QN[:, moving], bad, axis=0).argsort(1).argsort(1) * 100 / (moving.sum() - 1)
    expected = dict(zip(np.asarray(train)[moving], kept.mean(0), strict=True))
    for sample in scored.match_tags("train").exists("motive.influence"):
        assert sample.motive.influence == pytest.approx(expected[sample.motive_id])


def test_a_selection_for_one_group_is_that_groups(scored):
    report = motive_fo.curate(scored, selection={"budget": 0.25, "queries": ["two"], "by": "mean", "avoid": ()})
    assert {i.split("/")[1] for i in report.followed} == {"two"}
    scores_QN, queries, train = _scores(scored)
    rows = [queries.index(q) for q in report.followed]
    moving = np.isfinite(scores_QN).all(0)
    bad = queries.index("bad/melting.mp4")  # the one tagged 'avoid' always counts against
    assert report.avoided == ["bad/melting.mp4"]
    places = scores_QN[:, moving].argsort(1).argsort(1)
    rank = places[rows].sum(0) + (moving.sum() - 1 - places[bad])
    influence = scores_QN[rows][:, moving].sum(0) - scores_QN[bad, moving]
    ids = np.asarray(train)[moving]
    best = sorted(range(len(ids)), key=lambda n: (-rank[n], -influence[n], ids[n]))
    assert report.selected == [ids[n] for n in best][: len(report.selected)]
    assert scored.load_saved_view("motive: selection").values("motive_id") == report.selected
    assert scored.load_saved_view("motive: selection").values("motive.selected") == [1, 2, 3, 4]


def test_one_query_alone_is_its_own_top(scored):
    query = next(q.id for q in motive_fo.list_queries(scored) if q.group == "one")
    motive_fo.remove_queries(scored, ["bad/melting.mp4"])
    try:
        report = motive_fo.curate(scored, selection={"budget": 0.3, "queries": [query]})
        assert report.selected == list(motive_fo.query_scores(scored, query))[: len(report.selected)]
        assert report.coverage == {query: 1.0}
    finally:
        scored.match(fiftyone().ViewField("motive_id") == "bad/melting.mp4").tag_samples("avoid")


def test_what_a_bad_generation_learned_from_is_a_view(scored):
    report = motive_fo.curate(scored, selection={"budget": 0.25, "queries": [], "by": "votes"})
    view = scored.load_saved_view("motive: helps what to avoid")
    worst = list(motive_fo.query_scores(scored, "bad/melting.mp4"))[: len(view)]
    assert view.values("motive_id") == worst
    assert report.views["motive: helps what to avoid"] == 4


def test_whole_clip_and_difference_are_other_scores(scored):
    whole_QN, queries, train = _scores(scored, "whole")
    motion_QN = _scores(scored)[0]
    query = next(q.id for q in motive_fo.list_queries(scored) if q.group == "one")
    row = queries.index(query)
    scored.match(fiftyone().ViewField("motive_id") == "bad/melting.mp4").untag_samples("avoid")
    try:
        for score, values in (("whole", whole_QN[row]), ("difference", motion_QN[row] - whole_QN[row])):
            report = motive_fo.curate(scored, selection={"budget": 0.3, "queries": [query], "score": score})
            known = np.flatnonzero(np.isfinite(values))
            order = known[np.argsort(-values[known], kind="stable")]
            assert report.selected == [train[n] for n in order][: len(report.selected)]
    finally:
        scored.match(fiftyone().ViewField("motive_id") == "bad/melting.mp4").tag_samples("avoid")
        motive_fo.curate(scored, selection={"budget": 0.25, "queries": [], "score": "motion"})


def test_floors_quotas_and_copies_change_the_selection_and_nothing_else(scored):
    plain = motive_fo.curate(scored, selection={"budget": 0.3})
    first = plain.selected[0]
    sample = scored.match(fiftyone().ViewField("motive_id") == first).first()
    influence = dict(zip(*scored.values(["motive_id", "motive.influence"]), strict=True))
    sample.tags.append("stock")
    sample.save()
    capped = motive_fo.curate(scored, selection={"quotas": ["tag:stock<=0"]})
    assert first not in capped.selected
    assert capped.passed_over[first] == "quota tag:stock<=0 is full"
    assert capped.selected[:2] == plain.selected[1:3]
    word = sample.caption.split()[1]
    only = motive_fo.curate(scored, selection={"quotas": [f"caption:{word}<=0"]})
    assert first not in only.selected
    floor = sample.motive.motion_mean + 1e-6
    moved = motive_fo.curate(scored, selection={"quotas": (), "motion_floor": floor})
    assert first not in moved.selected
    assert all(value >= floor for value in scored.load_saved_view("motive: selection").values("motive.motion_mean"))
    alone = motive_fo.curate(scored, selection={"motion_floor": 0.0, "collapse": 0.01})
    assert len(alone.selected) < len(plain.selected)  # hardly two gradients differ that much
    assert all(why.startswith("nearly the gradient of ") for why in alone.passed_over.values())
    again = motive_fo.curate(scored, selection={"collapse": None})
    assert again.selected == plain.selected
    assert dict(zip(*scored.values(["motive_id", "motive.influence"]), strict=True)) == influence


def test_harmful_for_so_many_queries(scored):
    for least in (1, 3, 5):
        report = motive_fo.curate(scored, selection={"harmful_for": least, "vote_share": 0.4})
        view = scored.load_saved_view("motive: harmful for many")
        harm = dict(zip(*scored.match_tags("train").values(["motive_id", "motive.harmful_votes"]), strict=True))
        assert set(view.values("motive_id")) == {i for i, v in harm.items() if v is not None and v >= least}
        assert report.views["motive: harmful for many"] == len(view)
    motive_fo.curate(scored, selection={"harmful_for": None, "vote_share": None})


def test_what_if_computes_and_changes_nothing(scored):
    motive_fo.curate(scored, selection={"budget": 0.25})
    before = (scored.values("motive.selected"), load_run(scored, "motive"), scored.list_saved_views())
    rows = motive_fo.what_if(scored, budgets=[0.25, 0.5], vote_shares=[0.25])
    assert (scored.values("motive.selected"), load_run(scored, "motive"), scored.list_saved_views()) == before
    assert (rows[0].kept, rows[0].selected) == (1.0, 4)
    assert rows[1].selected == 8
    made = motive_fo.curate(scored, selection={"budget": 0.5, "vote_share": 0.25})
    assert rows[1].coverage_least == min(made.coverage.values())
    motive_fo.curate(scored, selection={"budget": 0.25, "vote_share": None})
    _, selection = selection_of(scored)
    assert selection.chosen.ids == scored.load_saved_view("motive: selection").values("motive_id")


def test_groups_can_be_changed_and_queries_removed(scored):
    one = [q.id for q in motive_fo.list_queries(scored) if q.group == "one"]
    assert motive_fo.group_queries(scored, ["one"], "uno")[0].group == "uno"
    assert {q.group for q in motive_fo.list_queries(scored) if q.id in one} == {"uno"}
    motive_fo.group_queries(scored, ["group:uno"], None)
    assert {q.group for q in motive_fo.list_queries(scored) if q.id in one} == {None}
    motive_fo.group_queries(scored, one, "one")
    removed = motive_fo.remove_queries(scored, ["one"])
    assert [q.id for q in removed] == one
    assert len(motive_fo.list_queries(scored)) == 3
    scored.match(fiftyone().ViewField("motive_id").is_in(one)).tag_samples("query")


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        ({"queries": ["three"]}, "'three' is no query and no group of queries; groups: one, two"),
        ({"queries": ["one"], "avoid": ["group:one"]}, "both followed and avoided"),
        ({"quotas": ["stock<=0.2"]}, r"selection\.quotas: 'stock<=0.2': a quota reads"),
        ({"collapse": 1.5}, r"selection\.collapse"),
        ({"by": "rank"}, r"selection\.by"),
    ],
)
def test_wrong_selections_name_the_way_out_and_change_nothing(scored, selection, problem):
    before = load_run(scored, "motive")
    with pytest.raises(MotiveError, match=problem):
        motive_fo.curate(scored, selection=selection)
    assert load_run(scored, "motive") == before


@pytest.mark.parametrize("group", ["", " x", "a,b", "a:b"])
def test_names_that_cannot_name_a_group(scored, group):
    with pytest.raises(InputError, match="cannot name a group"):
        motive_fo.group_queries(scored, ["one"], group)


def test_clips_of_the_dataset_can_become_queries(scored):
    chosen = scored.match_tags("train").exists("motive.influence").limit(2)
    chosen.tag_samples("favourites")
    added = motive_fo.add_queries(scored.name, "tag:favourites", group="liked")
    assert {q.group for q in added} == {"liked"}
    assert set(chosen.values("motive_id")) == {q.id for q in added}
    assert all("train" in tags for tags in chosen.values("tags"))
    motive_fo.remove_queries(scored, ["liked"])
    chosen.set_values("motive_group", [None, None])


def test_the_templates_prompts_become_queries_by_the_model_itself(database, tmp_path, name):
    files = write_template(tmp_path / "wanted")
    assert len(files) == 50
    assert len(PROMPTS) == 10
    for file in files[2:]:
        file.unlink()
    files[0].write_text("a red ball spins quickly clockwise on a wooden floor")
    made = generate_queries(tmp_path / "wanted")
    assert [path.with_suffix(".txt") for path in made] == files[:2]
    assert generate_queries(tmp_path / "wanted") == []
    bytes_before = made[0].read_bytes()
    made[0].unlink()
    assert generate_queries(tmp_path / "wanted") == made[:1]
    assert made[0].read_bytes() == bytes_before
    queries = motive_fo.add_queries(name, tmp_path / "wanted")
    assert [(q.group, q.caption) for q in queries] == [("compress", file.read_text().strip()) for file in files[:2]]
    report = motive_fo.compute_motion(name)
    assert report.status.get("failed", 0) == 0


def test_prompts_and_models_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="holds no prompts"):
        generate_queries(tmp_path)
    (tmp_path / "a.txt").write_text("a ball")
    with pytest.raises(ConfigError, match="unknown model"):
        generate_queries(tmp_path, "wam")
