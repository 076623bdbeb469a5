"""Agreement, controls and findings: worlds whose answer is known, and words that fit their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from motive_fo.dataset.attribution_quality import drawn_queries, spread_clips
from motive_fo.dataset.labels import relevance
from motive_fo.quality.agreement import agreement
from motive_fo.quality.intervals import Bootstrap
from motive_fo.quality.lds import spearman
from motive_fo.quality.retrieval import chance, retrieval
from motive_fo.quality.suite import (
    MOTION,
    retrieval_findings,
    retrieval_quality,
    training_findings,
    training_quality,
)

FEW = Bootstrap(resamples=300)


def _effects(noise, queries=8, clips=24, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(queries, clips))
    return truth, truth[:, :, None] + noise * rng.normal(size=(queries, clips, 2))


def test_agreement_is_spearman_with_the_mean_effect_and_has_a_ceiling():
    truth, effect = _effects(0.5)
    scores = truth + np.random.default_rng(1).normal(size=truth.shape)
    found = agreement({"own": scores, "perfect": truth, "opposite": -truth}, effect, FEW)
    assert found.by_score["own"].value == pytest.approx(spearman(scores, effect.mean(2)).mean())
    assert found.by_score["own"].low < found.by_score["own"].value < found.by_score["own"].high
    assert found.by_score["perfect"].value == pytest.approx(found.ceiling, abs=0.06)
    assert found.by_score["opposite"].value == pytest.approx(-found.by_score["perfect"].value)
    assert found.ahead["perfect"].high < 0 < found.ahead["opposite"].low
    assert set(found.ahead) == {"perfect", "opposite"}


def test_the_interval_is_over_queries_and_clips_drawn_apart():
    truth, effect = _effects(0.5, queries=4, clips=10)
    found = agreement({"own": truth}, effect, FEW).by_score["own"]
    drawn = [
        np.mean([spearman(truth[None, q, some], effect[None, q, some].mean(2))[0] for q in queries])
        for queries, some in zip(FEW.draws(4, 0), FEW.draws(10, 1), strict=True)
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_a_score_that_is_missing_is_the_lowest_of_its_query():
    truth, effect = _effects(0.1)
    known, missing = truth.copy(), truth.copy()
    known[:, 3], missing[:, 3] = truth.min(1) - 1, np.nan
    found = agreement({"a": known, "b": missing, "none": np.full_like(truth, np.nan)}, effect, FEW)
    assert found.by_score["a"] == found.by_score["b"]
    assert found.by_score["none"].value == 0


@pytest.mark.parametrize("wrong", ["shape", "clips", "finite"])
def test_what_cannot_be_compared_is_refused(wrong):
    truth, effect = _effects(0.1)
    if wrong == "shape":
        truth = truth[:, 1:]
    elif wrong == "clips":
        truth, effect = truth[:, :2], effect[:, :2]
    else:
        effect[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"are needed|not finite"):
        agreement({"own": truth}, effect, FEW)


@pytest.mark.parametrize(
    ("sign", "words"),
    [(1, "clips with higher scores lower the losses of 8 queries more"), (-1, "queries less"), (0, "not shown to say")],
)
def test_words_on_training_fit_the_interval(sign, words):
    truth, effect = _effects(0.2)
    own = sign * truth if sign else np.random.default_rng(5).normal(size=truth.shape)
    rivals = {"HOOF": np.random.default_rng(6).normal(size=truth.shape), "mask only": truth}
    found = training_quality({MOTION: own, **rivals}, effect, FEW, failed={})
    told = " ".join(training_findings(found))
    assert words in told
    assert "better than HOOF" in told if sign == 1 else "better than HOOF;" not in told.replace("or ", "")
    assert "not what fine-tuning on a selection does" in told
    assert ("hardly repeat" in told) == (found.ceiling < 0.3)


def test_falls_that_are_all_noise_say_so():
    _, effect = _effects(0.0)
    noise = np.random.default_rng(2).normal(size=effect.shape)
    found = training_quality({MOTION: effect.mean(2)}, noise, FEW, failed={})
    assert found.ceiling < 0.3
    assert any("hardly repeat" in each for each in training_findings(found))


def _labelled(queries=6, clips=60, kinds=3):
    return np.arange(queries)[:, None] % kinds == np.arange(clips)[None] % kinds


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (lambda relevant, rng: relevant + 0.5 * rng.normal(size=relevant.shape), "the scores find clips of a query's"),
        (
            lambda relevant, rng: 0.1 * rng.normal(size=relevant.shape) - 1.0 * relevant,
            "put clips of other kinds first",
        ),
        (lambda relevant, rng: np.zeros(relevant.shape), "not shown to be above chance"),
        (lambda relevant, rng: np.random.default_rng(10).random(relevant.shape), "not shown to be above chance"),
    ],
)
def test_words_on_retrieval_fit_the_interval(own, words):
    relevant, rng = _labelled(), np.random.default_rng(3)
    scores = {MOTION: own(relevant, rng), "HOOF": relevant.astype(float), "random ids": rng.random(relevant.shape)}
    found = retrieval_quality(scores, relevant, FEW, by="kind", kinds=3, left_out={})
    told = " ".join(retrieval_findings(found))
    assert words in told
    assert "random ids" not in told
    assert "With 6 queries intervals of retrieval are too narrow" in told
    assert found.by_score["HOOF"] == found.by_score["attainable"]
    assert found.by_score["attainable"]["ndcg_20"].value == pytest.approx(1)
    assert found.by_score["chance"]["ndcg_20"].value == pytest.approx(chance(relevant).ndcg_20.mean())
    own_gain = found.above_chance[MOTION].value
    assert (found.above_chance[MOTION].low > 0) == (words == "the scores find clips of a query's")
    assert own_gain == pytest.approx(
        retrieval(scores[MOTION], relevant).ndcg_20.mean() - chance(relevant).ndcg_20.mean()
    )


def test_clips_are_spread_over_the_ranks_and_the_same_seed_draws_the_same():
    scores = np.random.default_rng(0).normal(size=(3, 100))
    some = spread_clips(scores, 10, seed=1)
    assert some == spread_clips(scores, 10, seed=1) != spread_clips(scores, 10, seed=2)
    place = np.argsort(np.argsort(spearman_ranks(scores)))[some]
    assert sorted(place // 10) == list(range(10))
    assert spread_clips(scores, 100, 0) == spread_clips(scores, 500, 0) == list(range(100))
    assert drawn_queries(20, 5, 3) == drawn_queries(20, 5, 3) != drawn_queries(20, 5, 4)
    assert drawn_queries(4, 9, 0) == [0, 1, 2, 3]


def spearman_ranks(scores):
    return np.argsort(np.argsort(scores, axis=1), axis=1).mean(0)


def test_relevance_is_a_shared_label():
    queries = [frozenset({"a"}), frozenset({"b", "c"}), frozenset()]
    clips = [frozenset({"a", "b"}), frozenset({"c"}), frozenset({"d"}), frozenset()]
    expected = [[bool(q & c) for c in clips] for q in queries]
    assert relevance(queries, clips).tolist() == expected


def test_retrieval_of_a_large_gallery_takes_no_time_to_speak_of():
    """A hundred thousand clips: the figures of ties once needed binomial coefficients of 18,000 digits."""
    relevant = np.zeros((2, 100_000), bool)
    relevant[:, :15_000] = True
    found = chance(relevant)
    assert found.precision_20 == pytest.approx([0.15, 0.15])
    assert found.reciprocal_rank[0] == pytest.approx(0.15 / 0.85 * -np.log(0.15), rel=1e-3)
    scores = np.random.default_rng(0).normal(size=relevant.shape)
    assert (retrieval(scores, relevant).precision_20 < 0.6).all()
