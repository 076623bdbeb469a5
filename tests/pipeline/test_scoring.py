"""Scoring at scale: block by block, the same numbers, votes and order as all at once."""

import numpy as np
import pytest

from motive_fo.config import InfluenceConfig
from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.selection import best_clips, majority_votes, mean_ranks, percentile_ranks, rank_clips
from motive_fo.pipeline import scorable, scoring
from motive_fo.pipeline.refusals import ScoreSpread
from motive_fo.pipeline.scoring import score
from motive_fo.store import scores as stored_scores
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status

DIMENSION = 16
SAMPLES = samples_of((750.748, 300.0), (0,))
COLUMNS = {"sketch": Column("float32", (2, DIMENSION)), "norm": Column("float64", (2,))}
TRAIN, QUERIES = [f"clip{n:03d}" for n in range(211)], [f"q{n}" for n in range(5)]
MISSING = 17


@pytest.fixture(scope="module")
def sketches():
    """Every third clip is a copy of the one before, so that scores tie; one clip has no masked sketch."""
    rng = np.random.default_rng(0)
    made = rng.normal(size=(len(TRAIN) + len(QUERIES), 2, 2, DIMENSION)).astype(np.float32)
    made[3 : len(TRAIN) : 3] = made[2 : len(TRAIN) - 1 : 3]
    made[MISSING] = np.nan
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory, sketches):
    with RunStore(tmp_path_factory.mktemp("scoring") / "run.zarr", write=True) as opened:
        for role, ids, first in (("train", TRAIN, 0), ("query", QUERIES, len(TRAIN))):
            tables = opened.sketches(role, SAMPLES, COLUMNS, {"model": "none"})
            for s, table in enumerate(tables.tables.values()):
                table.register(ids)
                for n, clip_id in enumerate(ids):
                    values = {"sketch": sketches[first + n, s], "norm": np.ones(2)}
                    table.put(Row(clip_id, Status.DONE, content="x", values=values))
            tables.flush()
        yield opened


def _oracle(sketches, side, combine):
    """Query by query, clip by clip."""
    train, query = (part.astype(np.float64) for part in (sketches[: len(TRAIN)], sketches[len(TRAIN) :]))
    scores = np.empty((len(QUERIES), len(TRAIN)))
    for q in range(len(QUERIES)):
        for n in range(len(TRAIN)):
            a, b = query[q, :, side], train[n, :, side]
            if combine == "mean-cosine":
                parts = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
                scores[q, n] = np.mean(parts)
            else:
                x, y = (a.ravel(), b.ravel()) if combine == "concat" else (a.mean(0), b.mean(0))
                scores[q, n] = x @ y / np.sqrt((x @ x) * (y @ y))
    return scores.astype(np.float32)


@pytest.fixture
def in_small_pieces(monkeypatch):
    monkeypatch.setattr(scorable, "_BLOCK_SKETCHES", 14)  # seven clips at once
    monkeypatch.setattr(scoring, "_HELD", 0)  # read from the store, as large scorings are
    monkeypatch.setattr(stored_scores, "_CHUNK_CLIPS", (10, 10))  # blocks and chunks end at different clips


@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-sketch"])
def test_streamed_scores_votes_and_order_are_those_of_an_oracle(store, sketches, in_small_pieces, combine):
    scores, _ = score(TRAIN, QUERIES, store, InfluenceConfig(combine=combine))
    for rows, side in ((scores.motion, 1), (scores.whole, 0)):
        expected = _oracle(sketches, side, combine)
        np.testing.assert_allclose(rows.read(), expected, atol=1e-6)
        ties = rows.read()[:, 3:16:3] == rows.read()[:, 2:15:3]
        assert ties.all()
        ours, theirs = rank_clips(rows, TRAIN, 0.1), rank_clips(rows.read(), TRAIN, 0.1)
        assert ours.votes.tolist() == theirs.votes.tolist()
        assert (ours.by_votes, ours.by_mean, ours.by_max) == (theirs.by_votes, theirs.by_mean, theirs.by_max)


def test_ranking_by_rows_is_ranking_by_hand(store, in_small_pieces):
    """Against the definitions, all at once in memory: percentile ranks, thresholds, ties by id."""
    rows = score(TRAIN, QUERIES, store, InfluenceConfig())[0].motion
    known = [n for n in range(len(TRAIN)) if n != MISSING]
    scores_QK = rows.read()[:, known]
    avoid = np.asarray([False, True, False, False, True])
    made = rank_clips(rows, TRAIN, 0.1, avoid)
    count = int(np.ceil(0.1 * len(known)))
    votes_QK = scores_QK >= np.sort(scores_QK, axis=1)[:, [-count]]
    assert made.votes.tolist() == (votes_QK[~avoid].sum(0) - votes_QK[avoid].sum(0)).tolist()
    assert votes_QK.sum(1).max() > count  # a tie at the threshold
    worst_QK = -scores_QK >= np.sort(-scores_QK, axis=1)[:, [-count]]
    assert made.harm.tolist() == (worst_QK[~avoid].sum(0) + votes_QK[avoid].sum(0)).tolist()
    ranks = percentile_ranks(scores_QK)
    rank = np.where(avoid[:, None], 100 - ranks, ranks).mean(0)
    np.testing.assert_allclose(made.rank, rank, rtol=1e-14)
    rank = rank.round(9)  # equal means of ranks differ in their last digits here; they are added exactly there
    influence = (scores_QK.astype(np.float64) * np.where(avoid, -1, 1)[:, None]).mean(0)
    by_mean = sorted(range(len(known)), key=lambda k: (-rank[k], -influence[k], TRAIN[known[k]]))
    assert made.by_mean == [TRAIN[known[k]] for k in by_mean]
    by_votes = sorted(by_mean, key=lambda k: -made.votes[k])
    assert made.by_votes == [TRAIN[known[k]] for k in by_votes]
    np.testing.assert_allclose(made.best, ranks[~avoid].max(0) - ranks[avoid].max(0), rtol=1e-12)
    found = mean_ranks(rows, [0, 2])
    np.testing.assert_allclose(found[known], ranks[[0, 2]].mean(0), rtol=1e-14)
    assert np.isnan(found[MISSING])


def test_ties_are_ordered_by_id_whatever_the_order_given():
    ids = ["d", "b", "c", "a", "e"]
    scores = np.asarray([[1, 1, 0, 1, 2]], np.float32)
    assert rank_clips(scores, ids, 0.2).by_mean == ["e", "a", "b", "d", "c"]


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_the_best_clips_are_those_of_a_stable_sort(count):
    scores = np.random.default_rng(1).integers(0, 9, 200).astype(np.float32)
    scores[[3, 50]] = np.nan
    order = [n for n in np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable").tolist() if n not in (3, 50)]
    assert best_clips(scores, count).tolist() == order[:count]


def test_a_scoring_that_was_replaced_is_not_read_as_the_old_one(store, in_small_pieces):
    old, _ = score(TRAIN, QUERIES, store, InfluenceConfig())
    score(TRAIN[:50], QUERIES, store, InfluenceConfig())
    with pytest.raises(StoreError, match="scored again in the meantime"):
        old.motion[0]


def test_a_small_scoring_outlives_the_next(store):
    old, _ = score(TRAIN, QUERIES, store, InfluenceConfig())
    before = old.motion_QN.copy()
    score(TRAIN, QUERIES, store, InfluenceConfig(mask_side="none"))
    assert np.array_equal(old.motion_QN, before, equal_nan=True)


def test_a_scoring_that_breaks_off_leaves_the_last_one(store, monkeypatch):
    before = score(TRAIN, QUERIES, store, InfluenceConfig())[0].motion_QN
    monkeypatch.setattr(scorable, "_BLOCK_SKETCHES", 14)

    def killed(step, done, total):
        if done > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(TRAIN, QUERIES, store, InfluenceConfig(mask_side="none"), progress=killed)
    assert np.array_equal(store.read_scores("motion")[0], before, equal_nan=True)
    assert not list(store.place.path.glob("influence-*"))


@pytest.mark.parametrize("changed", [{"combine": "mean-rank"}, {"combine": "mean-zscore"}, {"overlap": "remove"}])
def test_settings_that_compare_all_clips_are_bounded(store, monkeypatch, changed):
    monkeypatch.setattr(scoring, "LARGEST", len(TRAIN) * len(QUERIES) - 1)
    with pytest.raises(ConfigError, match="use combine mean-cosine and overlap keep"):
        score(TRAIN, QUERIES, store, InfluenceConfig(**changed))
    score(TRAIN, QUERIES, store, InfluenceConfig())


def test_new_clips_and_queries_change_no_score_that_was_there(store, sketches):
    """What arrives daily: the scores of what was there stay to the last bit, votes follow."""
    few = score(TRAIN[:100], QUERIES[:3], store, InfluenceConfig())[0].motion_QN
    every = score(TRAIN, QUERIES, store, InfluenceConfig())[0].motion_QN
    assert np.array_equal(every[:3, :100], few, equal_nan=True)
    known = [n for n in range(len(TRAIN)) if n != MISSING]
    assert majority_votes(every[:, known], 0.1).sum() > majority_votes(few[:, known[:99]], 0.1).sum()


def test_blocks_end_where_chunks_end(monkeypatch):
    """So that no chunk is read twice, wherever in the table the clips begin."""
    for first in (0, 5, 1023, 1024, 3000):
        columns = scorable._columns(np.arange(first, first + 5000)[None])
        assert [c.start for c in columns[1:]] == [c.stop for c in columns[:-1]]
        assert (columns[0].start, columns[-1].stop) == (0, 5000)
        assert all((first + c.stop) % 1024 == 0 for c in columns[:-1])
    monkeypatch.setattr(scorable, "_BLOCK_SKETCHES", 14)
    assert [c.stop for c in scorable._columns(np.arange(3, 23).reshape(2, 10))] == [4, 10]


def test_any_order_and_part_of_the_clips_has_the_same_scores(store, in_small_pieces):
    """Runs of rows, gaps and shuffled clips are read in different ways."""
    every = score(TRAIN, QUERIES, store, InfluenceConfig())[0].motion_QN
    shuffled = np.random.default_rng(0).permutation(len(TRAIN))
    for places in (np.arange(20, 190), np.arange(0, 211, 3), np.asarray([200, 3, 100]), shuffled):
        found = score([TRAIN[n] for n in places], QUERIES, store, InfluenceConfig())[0].motion_QN
        np.testing.assert_array_equal(found, every[:, places])


def test_votes_counted_on_all_cores_are_those_of_one_query_after_another():
    scores = np.random.default_rng(0).normal(size=(7, 70_000)).astype(np.float32)
    threshold_Q1 = np.sort(scores, axis=1)[:, [-7000]]
    assert np.array_equal(majority_votes(scores, 0.1), (scores >= threshold_Q1).sum(0))


def test_queries_whose_scores_spread_only_at_the_end_are_not_alike():
    spread = ScoreSpread(2)
    spread.add(np.asarray([[0.5, 0.5], [0.1, 0.9]]))
    assert spread.alike_Q.tolist() == [True, False]
    spread.add(np.asarray([[0.5, np.nan], [0.1, 0.9]]))
    assert spread.alike_Q.tolist() == [True, False]
    spread.add(np.asarray([[0.6], [0.1]]))
    assert not spread.alike_Q.any()
    spread.add(np.asarray([[0.6], [0.1]]))
    assert not spread.alike_Q.any()


@pytest.fixture(scope="module")
def drawn_thrice(tmp_path_factory):
    """Few clips with three draws; one of them lacks the sketch of one draw."""
    rng = np.random.default_rng(2)
    samples, ids = samples_of((900.0, 750.748, 300.0), (0,)), {"train": TRAIN[:50], "query": QUERIES}
    with RunStore(tmp_path_factory.mktemp("draws") / "run.zarr", write=True) as opened:
        for role, clips in ids.items():
            tables = opened.sketches(role, samples, COLUMNS, {"model": "none"})
            for s, table in enumerate(tables.tables.values()):
                table.register(clips)
                for clip_id in clips:
                    sketch = rng.normal(size=(2, DIMENSION)) * (np.nan if (clip_id, s) == (TRAIN[MISSING], 1) else 1)
                    values = {"sketch": sketch.astype(np.float32), "norm": np.ones(2)}
                    table.put(Row(clip_id, Status.DONE, content="x", values=values))
            tables.flush()
        yield opened


@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-sketch", "mean-rank", "mean-zscore"])
def test_scores_without_a_draw_are_those_of_the_others(drawn_thrice, in_small_pieces, combine):
    every = (900.0, 750.748, 300.0)
    train = [clip_id for clip_id in TRAIN[:50] if clip_id != TRAIN[MISSING]]  # which others rank once it is left out
    scores, _ = score(train, QUERIES, drawn_thrice, InfluenceConfig(combine=combine))
    found = [rows.read() for rows in scores.without]
    assert len(found) == 3
    for s, without_QN in enumerate(found):
        others = InfluenceConfig(combine=combine, timesteps=tuple(np.delete(every, s)))
        alone, _ = score(train, QUERIES, drawn_thrice, others)
        np.testing.assert_allclose(without_QN, alone.motion_QN, atol=1e-6)


@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-sketch", "mean-rank", "mean-zscore"])
def test_a_clip_that_lacks_one_draw_is_unknown_without_any(drawn_thrice, combine):
    scores, _ = score(TRAIN[:50], QUERIES, drawn_thrice, InfluenceConfig(combine=combine))
    for rows in (scores.motion, *scores.without):
        assert np.flatnonzero(np.isnan(rows.read()).any(0)).tolist() == [MISSING]


@pytest.mark.parametrize(
    "changed", [{"overlap": "remove"}, {"center": "mean"}, {"kernel": "gauss-newton", "combine": "mean-sketch"}]
)
def test_whatever_is_done_to_scores_is_done_to_those_without_a_draw(drawn_thrice, monkeypatch, changed):
    rng = np.random.default_rng(0)
    overlap = rng.random((len(QUERIES), 50))
    monkeypatch.setattr(scoring, "_overlap", lambda *_: overlap)
    plain_, _ = score(TRAIN[:50], QUERIES, drawn_thrice, InfluenceConfig(combine=changed.get("combine", "mean-cosine")))
    before = [rows.read() for rows in plain_.without]
    scores, _ = score(TRAIN[:50], QUERIES, drawn_thrice, InfluenceConfig(**changed))
    assert len(scores.without) == 3
    for old, rows in zip(before, scores.without, strict=True):
        assert not np.allclose(old, rows.read(), equal_nan=True, atol=1e-3)
    if changed.get("kernel") is None:  # of single samples, which do not know of each other
        alone, _ = score(TRAIN[:50], QUERIES, drawn_thrice, InfluenceConfig(**changed, timesteps=(750.748, 300.0)))
        first = score(TRAIN[:50], QUERIES, drawn_thrice, InfluenceConfig(**changed))[0].without[0].read()
        known = np.arange(50) != MISSING
        np.testing.assert_allclose(first[:, known], alone.motion_QN[:, known], atol=1e-6)


def test_one_draw_and_older_scorings_have_no_scores_without_one(drawn_thrice):
    scores, _ = score(TRAIN[:50], QUERIES, drawn_thrice, InfluenceConfig(timesteps=(300.0,)))
    assert scores.without == drawn_thrice.scores_without() == []
    drawn_thrice.write_scores({"motion": scores.motion_QN, "whole": scores.whole_QN}, TRAIN[:50], QUERIES, {})
    assert drawn_thrice.scores_without() == []
    assert score(TRAIN[:50], QUERIES, drawn_thrice, InfluenceConfig())[0].without
