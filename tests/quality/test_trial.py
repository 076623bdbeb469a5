"""A trial of a ranking: its halves and controls, and whether its verdict is right on worlds whose truth is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from motive_fo.quality.intervals import Estimate, t_interval
from motive_fo.quality.trainings import BASE, falls_of, train_and_measure
from motive_fo.quality.trial import (
    OTHERS,
    OWN,
    RANDOM,
    SELECTION,
    TrialDesign,
    by_votes,
    halves,
    plan_trial,
    trial,
    two_sides,
    verdict_of,
)

QUERIES, CLIPS = 12, 200
KINDS = ["a", "b", "c", "d"] * (QUERIES // 4)


class World:
    """What a clip is worth to a query is known, and a training's fall is the mean worth of its clips, with noise."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.kind_QN = rng.standard_normal((2, CLIPS))[np.arange(QUERIES) % 2]
        self.common_QN = np.repeat(rng.standard_normal((1, CLIPS)), QUERIES, axis=0)
        self.noise_QN = rng.standard_normal((QUERIES, CLIPS)) + 2 * rng.standard_normal(CLIPS)
        self.seed = seed
        self.trained: list[int] = []

    @property
    def worth_QN(self):
        return self.common_QN + self.kind_QN

    def train(self, clips_K, repeat):
        self.trained.append(repeat)
        return clips_K, repeat

    def losses(self, model, queries_K):
        if model is None:
            return np.full((2, len(queries_K)), 100.0)
        clips_K, repeat = model
        common = 0.2 * np.random.default_rng([self.seed, repeat]).standard_normal(QUERIES)
        own = 0.1 * np.random.default_rng([self.seed, repeat, *clips_K.tolist()]).standard_normal(QUERIES)
        fall_Q = self.worth_QN[:, clips_K].mean(1) + common + own
        return np.stack([100 - fall_Q, 100 - fall_Q / 2])[:, queries_K]

    def found(self, scores_QN, kinds=KINDS, **design):
        return trial(scores_QN, None, self.train, self.losses, TrialDesign(seed=self.seed, **design), kinds=kinds)


def test_scores_that_know_the_worth_are_to_be_used():
    found = World(1).found(World(1).worth_QN)
    assert found.verdict == "use it"
    assert found.gain.low > 0
    assert found.ordinary_gain.value == pytest.approx(found.gain.value / 2)
    assert found.falls[SELECTION].value - found.falls[RANDOM].value == pytest.approx(found.gain.value)
    assert (found.queries, found.clips, found.chosen, found.shown) == (QUERIES, CLIPS, 20, 20)


def test_scores_that_are_the_wrong_way_round_are_not():
    found = World(1).found(-World(1).worth_QN)
    assert found.verdict == "do not"
    assert found.gain.high < 0


def test_where_there_is_nothing_to_find_hardly_anything_is_found():
    """Scores of which all queries say the same, and which mean nothing: as likely to pick a good set as lots are."""
    worlds = [World(seed) for seed in range(80)]
    verdicts = Counter(world.found(world.noise_QN, kinds=(), repeats=3).verdict for world in worlds)
    assert verdicts["take more draws"] >= 72  # 76 expected: 5 % of the intervals leave zero out


def test_choices_that_answer_to_their_kind_are_told_from_those_that_do_not():
    world = World(2)
    answers = world.found(world.common_QN + 3 * world.kind_QN)
    assert answers.own.low > 0
    assert [sorted(side) for side in answers.kinds] == [["a", "c"], ["b", "d"]]
    blind = world.found(world.common_QN)
    assert blind.own.holds(0)
    assert blind.verdict == "use it"


def test_other_queries_better_choice_forbids_what_random_clips_would_allow():
    world = World(3)
    swapped = world.kind_QN[np.arange(QUERIES) ^ 1]
    found = world.found(3 * world.common_QN + 2 * swapped)
    assert found.own.high < 0
    assert found.verdict == "do not"
    assert verdict_of(Estimate(1, 0.5, 1.5), None) == "use it"
    assert verdict_of(Estimate(1, -0.5, 1.5), None) == "take more draws"
    assert verdict_of(Estimate(1, -0.5, 1.5), Estimate(-1, -2, -0.5)) == "do not"


def test_no_query_is_measured_after_its_own_choice_and_each_is_measured_once():
    asked: list[frozenset[int]] = []
    choose = by_votes(np.random.default_rng(4).random((QUERIES, CLIPS)), 0.1)  # everyone's choice is another

    def noted(some_Q):
        asked.append(frozenset(some_Q))
        return choose(some_Q)

    plan = plan_trial(QUERIES, CLIPS, noted, TrialDesign(), KINDS)
    chosen_by = {tuple(sorted(choose(sorted(some_Q)))): some_Q for some_Q in asked}
    seen = Counter()
    for each in plan.trainings:
        if each.name != RANDOM:
            assert not chosen_by[tuple(sorted(each.clips.tolist()))] & set(each.queries.tolist())
        seen.update((each.name, each.repeat, q) for q in each.queries.tolist())
    assert set(seen.values()) == {1}
    assert len(seen) == 4 * TrialDesign().repeats * QUERIES
    for each in plan.trainings:
        if each.name in (OWN, OTHERS):
            chooser = chosen_by[tuple(sorted(each.clips.tolist()))]
            kinds = {KINDS[q] for q in chooser} & {KINDS[q] for q in each.queries.tolist()}
            assert bool(kinds) == (each.name == OWN)


def test_halves_hold_each_kind_alike_and_depend_on_the_seed_alone():
    half_Q = halves(KINDS, 0)
    assert half_Q.sum() == QUERIES // 2
    counts = Counter(zip(KINDS, half_Q.tolist(), strict=True))
    assert all(abs(counts[kind, 0] - counts[kind, 1]) <= 1 for kind in "abcd")
    assert (half_Q == halves(KINDS, 0)).all()
    assert any((half_Q != halves(KINDS, seed)).any() for seed in range(1, 4))


def test_kinds_that_are_too_few_for_a_control_leave_it_out():
    assert two_sides(["a"] * 8 + ["b"] * 3) == []
    assert two_sides([None] * 12) == []
    assert two_sides(["a"] * 4 + ["b"] * 4) == [["a"], ["b"]]
    found = World(5).found(World(5).worth_QN, kinds=())
    assert found.own is None
    assert set(found.falls) == {SELECTION, RANDOM}


def test_all_sets_are_as_large_and_random_ones_differ_from_repeat_to_repeat():
    plan = plan_trial(QUERIES, CLIPS, by_votes(World(6).worth_QN, 0.1), TrialDesign(steps=3, batch=4), KINDS)
    assert (plan.chosen, plan.shown) == (20, 12)
    assert {len(set(each.clips.tolist())) for each in plan.trainings} == {12}
    lots = [each.clips.tolist() for each in plan.trainings if each.name == RANDOM]
    assert all(lots[0] != other for other in lots[1:])


def test_what_was_done_is_not_done_again_and_what_cannot_be_measured_is_left_out():
    world = World(7)
    plan = plan_trial(QUERIES, CLIPS, by_votes(world.noise_QN, 0.1), TrialDesign(), KINDS)

    def losses(model, queries_K):
        return np.where(queries_K == 3, np.nan, world.losses(model, queries_K))

    def stop(label, done, total):
        if done >= 10:
            raise KeyboardInterrupt

    known = {}
    with pytest.raises(KeyboardInterrupt):
        train_and_measure(plan.trainings, QUERIES, None, world.train, losses, known=known, progress=stop)
    done = len(world.trained)
    assert BASE in known
    train_and_measure(plan.trainings, QUERIES, None, world.train, losses, known=known)
    assert len(world.trained) == TrialDesign().repeats * (
        1 + 2 + 4
    )  # own kind's and other queries' choice are the same sets
    whole = train_and_measure(plan.trainings, QUERIES, None, world.train, losses)
    assert 0 < done < len(world.trained)
    falls, again = (falls_of(each, plan.trainings, QUERIES) for each in (known, whole))
    for name, fall_2QR in falls.items():
        np.testing.assert_array_equal(fall_2QR, again[name])
        assert np.isnan(fall_2QR[:, 3]).all()
        assert np.isfinite(np.delete(fall_2QR, 3, 1)).all()


@pytest.mark.parametrize(
    ("queries", "repeats", "problem"), [(7, 5, "8 or more are needed"), (8, 2, "three or more are needed")]
)
def test_what_could_say_nothing_is_refused(queries, repeats, problem):
    with pytest.raises(ValueError, match=problem):
        plan_trial(queries, CLIPS, lambda some_Q: [0], TrialDesign(repeats=repeats))


def test_a_t_interval_of_one_source_is_the_textbooks():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    found = t_interval(3.0, [(values.var(ddof=1) / 4, 3)])
    assert (found.low, found.high) == pytest.approx((3 - 3.18245 * 0.912871, 3 + 3.18245 * 0.912871), abs=1e-4)
    wider = t_interval(3.0, [(values.var(ddof=1) / 4, 3), (1.0, 3)])
    assert wider.low < found.low
    assert t_interval(3.0, [(0.0, 3)]) == Estimate(3.0, 3.0, 3.0)


@pytest.mark.parametrize(("clips", "batch"), [(4, 1), (20, 2), (22, 3), (100, 10), (150, 15), (161, 16), (4000, 16)])
def test_a_set_is_passed_four_times_as_far_as_the_batch_allows(clips, batch):
    assert TrialDesign().batch_of(clips) == batch
    assert TrialDesign(batch=5).batch_of(clips) == 5
    plan = plan_trial(QUERIES, CLIPS, lambda some_Q: range(min(clips, CLIPS)), TrialDesign(), KINDS)
    assert plan.batch == TrialDesign().batch_of(plan.chosen)
    assert plan.shown == plan.chosen
