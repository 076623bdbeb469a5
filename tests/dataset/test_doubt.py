"""The doubt of ranks on a real dataset: field, table and page, by several draws, by one, and of earlier runs."""

import csv
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import zarr

import motive_fo
from motive_fo.config import InfluenceConfig
from motive_fo.dataset.exploration import explore
from motive_fo.dataset.run_record import load_run
from motive_fo.influence.doubt import doubts_of
from motive_fo.influence.selection import percentile_ranks
from motive_fo.pipeline.scoring import sample_scores
from motive_fo.store.run_store import RunStore


@pytest.fixture
def drawn(dataset):
    """Gradients by three noises, scored and curated."""
    motive_fo.compute_gradients(dataset, attribution={"timesteps": [750.748], "noises": [0, 1, 2]})
    motive_fo.score_influence(dataset)
    motive_fo.curate(dataset, selection={"budget": 0.25})
    return dataset


def _doubts(dataset):
    return {
        i: d for i, d in zip(*dataset.values(["motive_id", "motive.influence_doubt"]), strict=True) if d is not None
    }


def _expected(dataset):
    """From the sketches, by the definition."""
    store = RunStore(load_run(dataset, "motive").store)
    rows = store.scores("motion")
    each = sample_scores(rows.train_ids, rows.query_ids, store, InfluenceConfig())
    known = np.isfinite(each.scores_SQN).all((0, 1))
    ranks = [percentile_ranks(np.delete(each.scores_SQN, s, 0).mean(0)[:, known]).mean(0) for s in range(3)]
    return dict(zip(np.asarray(rows.train_ids)[known], np.sqrt(2 * np.var(ranks, 0)), strict=True))


def _shown(dataset, tmp_path):
    """The page, and the table by clip."""
    page = motive_fo.write_report(dataset, tmp_path / "r.html", shown=0).read_text(encoding="utf-8")
    motive_fo.write_scores(dataset, tmp_path / "s.csv", overwrite=True)
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as stream:
        return page, {row["id"]: row for row in csv.DictReader(stream)}


def test_every_scored_clip_has_its_doubt_in_field_table_page_and_terminal(drawn, tmp_path):
    found = _doubts(drawn)
    assert found == pytest.approx(_expected(drawn), abs=1e-6)
    assert any(found.values())
    assert {i for i, v in zip(*drawn.values(["motive_id", "motive.influence"]), strict=True) if v is not None} == set(
        found
    )
    page, table = _shown(drawn, tmp_path)
    for clip_id, row in table.items():
        assert float(row["influence_doubt"] or "nan") == pytest.approx(found.get(clip_id, np.nan), nan_ok=True)
        if clip_id in found:
            assert f"{float(row['influence']):.1f} ± {found[clip_id]:.1f}" in page
    (note,) = (note for note in load_run(drawn, "motive").steps["influence"]["notes"] if "timesteps" in note)
    assert f"by {np.median(list(found.values())):.1f} of 100 points" in note
    from motive_fo_cli.demo import _print_table

    with redirect_stdout(StringIO()) as printed:
        _print_table(drawn.name)
    top = drawn.load_saved_view("motive: top by votes").first()
    assert f"{top.motive.influence:.1f} ± {top.motive.influence_doubt:.1f}" in printed.getvalue()


def test_it_is_of_the_queries_to_follow_and_a_run_comes_out_again_and_goes_whole(drawn):
    query = motive_fo.list_queries(drawn)[0]
    motive_fo.mark_queries(drawn.match({"motive_id": query.id}), avoid=True)
    motive_fo.score_influence(drawn)
    record = load_run(drawn, "motive")
    config = record.section("selection")
    exploration = explore(drawn, record)
    scored = exploration.scored
    (follow,) = (q for q, each in enumerate(scored.queries) if not each.avoid)
    found = _doubts(drawn)
    places = np.asarray([scored.ids.index(clip_id) for clip_id in found])
    alone = doubts_of([rows.read()[[follow]] for rows in scored.without], np.asarray([False]), places)
    assert alone.tolist() == pytest.approx(list(found.values()), abs=1e-9)
    both = exploration.doubts(config, list(found))
    ranks = []
    for rows in scored.without:
        follow_R, avoid_R = (percentile_ranks(rows.read()[q, places][None])[0] for q in (follow, 1 - follow))
        ranks.append((follow_R + 100 - avoid_R) / 2)
    assert list(both.values()) == pytest.approx(np.sqrt(2 * np.var(ranks, 0)).tolist(), abs=1e-9)
    motive_fo.curate(drawn)
    assert motive_fo.replay_run(drawn).verdict == "equal"
    motive_fo.delete_run(drawn)
    assert not drawn.has_sample_field("motive")


def test_one_draw_clears_it_and_scorings_of_earlier_versions_show_none(drawn, tmp_path):
    store = load_run(drawn, "motive").store
    root = zarr.open_group(store, mode="a")
    (scoring,) = (group for name, group in root.groups() if name.startswith("influence"))
    for s in range(3):
        del scoring[f"motion-without-{s}"]
    drawn.delete_sample_field("motive.influence_doubt")  # as a run that an earlier version made
    page, table = _shown(drawn, tmp_path)
    assert " ± " not in page
    assert "influence_doubt" not in next(iter(table.values()))
    record = load_run(drawn, "motive")
    assert explore(drawn, record).doubts(record.section("selection"), list(table)[:1]) == {}
    motive_fo.curate(drawn)
    assert _doubts(drawn) == {}
    motive_fo.score_influence(drawn)
    assert _doubts(drawn) == pytest.approx(_expected(drawn), abs=1e-6)
    assert drawn.get_field("motive.influence_doubt").description
    motive_fo.score_influence(drawn, influence={"noises": [1]})
    assert _doubts(drawn) == {}
    assert " ± " not in _shown(drawn, tmp_path)[0]
    assert not [note for note in load_run(drawn, "motive").steps["influence"]["notes"] if "timesteps" in note]
