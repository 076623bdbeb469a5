"""A selection as a function of scores and facts: floors, coverage, what-if."""

from __future__ import annotations

import numpy as np
import pytest

from motive_fo.config import SelectionConfig
from motive_fo.influence.curation import Candidates, select, what_if


def _candidates(scores, **facts):
    scores = np.asarray(scores, np.float32)
    ids = [f"c{n}" for n in range(scores.shape[1])]
    queries = [f"q{n}" for n in range(len(scores))]
    return Candidates(scores, ids, queries, facts.pop("avoid", np.zeros(len(scores), np.bool_)), **facts)


def test_slow_clips_are_left_out_but_counted():
    candidates = _candidates([np.linspace(1, 0, 10)], motion={"c0": 0.1, "c1": 0.5, "c2": 0.5})
    made = select(candidates, SelectionConfig(budget=0.2, motion_floor=0.3))
    assert made.chosen.ids == ["c1", "c2"]
    assert made.chosen.passed_over == {"c0": "moves by less than 0.3 px per frame"}
    assert len(made.ranking.ids) == 10


def test_a_selection_for_one_query_covers_it_and_not_the_other():
    scores = np.stack([np.linspace(1, 0, 20), np.linspace(0, 1, 20)])
    assert select(_candidates(scores[:1]), SelectionConfig(budget=0.2)).coverage == {"q0": 1.0}
    made = select(_candidates(scores), SelectionConfig(budget=0.2))
    own = {"q0": {f"c{n}" for n in range(4)}, "q1": {f"c{n}" for n in range(16, 20)}}
    assert made.coverage == {q: len(best & set(made.chosen.ids)) / 4 for q, best in own.items()}
    assert sum(made.coverage.values()) == 1


def test_queries_to_avoid_need_no_coverage():
    scores = np.stack([np.linspace(1, 0, 20), np.linspace(0, 1, 20)])
    made = select(_candidates(scores, avoid=np.asarray([False, True])), SelectionConfig(budget=0.2))
    assert made.coverage == {"q0": 1.0}


def test_what_if_says_what_the_selection_would_be():
    rng = np.random.default_rng(3)
    candidates = _candidates(rng.normal(size=(5, 40)), motion={f"c{n}": float(n) for n in range(40)})
    config = SelectionConfig(budget=0.1)
    rows = what_if(candidates, config, [0.1, 0.5], [0.1, 0.25])
    assert [(row.budget, row.vote_share) for row in rows] == [(0.1, 0.1), (0.1, 0.25), (0.5, 0.1), (0.5, 0.25)]
    present = select(candidates, config).chosen.ids
    for row in rows:
        made = select(candidates, SelectionConfig(budget=row.budget, vote_share=row.vote_share))
        assert row.selected == len(made.chosen.ids)
        assert row.majority == len(made.ranking.majority())
        assert row.kept == len(set(present) & set(made.chosen.ids)) / len(present)
        assert row.coverage_least == min(made.coverage.values())
        assert row.motion == pytest.approx(np.mean([int(i[1:]) for i in made.chosen.ids]))
    assert rows[0].kept == 1
