"""What is taken of an order: quotas and near-duplicates, by hand and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motive_fo.errors import ConfigError
from motive_fo.influence.selection import budget_count
from motive_fo.influence.shortlist import Quota, shortlist

ORDER = [f"c{n}" for n in range(10)]


def test_without_conditions_the_first_are_taken():
    made = shortlist(ORDER, 3)
    assert (made.ids, made.passed_over, made.unmet) == (["c0", "c1", "c2"], {}, {})


def test_barred_clips_are_passed_over_with_their_reason():
    made = shortlist(ORDER, 3, barred={"c1": "too slow", "c9": "too slow"})
    assert made.ids == ["c0", "c2", "c3"]
    assert made.passed_over == {"c1": "too slow"}


@pytest.mark.parametrize(
    ("text", "share", "at_least"),
    [
        ("tag:dog<=0.2", 0.2, False),
        ("tag:dog<=20%", 0.2, False),
        ("caption:a (red|blue) ball >= 0.1", 0.1, True),
        ("tag:a<b<=1", 1.0, False),
    ],
)
def test_quotas_are_read(text, share, at_least):
    quota = Quota.parse(text)
    assert (quota.share, quota.at_least) == (pytest.approx(share), at_least)


@pytest.mark.parametrize(
    "text", ["dog<=0.2", "tag:dog", "tag:dog=0.2", "tag:dog<=2", "tag:<=0.2", "caption:(<=0.2", ""]
)
def test_wrong_quotas_say_how_they_read(text):
    with pytest.raises(ConfigError, match=r"selection\.quotas: "):
        Quota.parse(text)


def test_a_quota_knows_its_clips():
    assert Quota.parse("tag:dog<=1").holds(["cat", "dog"], "")
    assert not Quota.parse("tag:dog<=1").holds(["dogs"], "dog")
    assert Quota.parse("caption:red ball<=1").holds([], "A Red Ball rolls")


def test_an_upper_quota_lets_the_next_ones_in():
    quota = Quota.parse("tag:x<=0.5")
    made = shortlist(ORDER, 4, quotas={quota: frozenset({"c0", "c1", "c2", "c3"})})
    assert made.ids == ["c0", "c1", "c4", "c5"]
    assert made.passed_over == {"c2": "quota tag:x<=0.5 is full", "c3": "quota tag:x<=0.5 is full"}


def test_a_lower_quota_keeps_places_for_its_best():
    quota = Quota.parse("tag:x>=0.5")
    made = shortlist(ORDER, 4, quotas={quota: frozenset({"c7", "c8", "c9"})})
    assert made.ids == ["c0", "c1", "c7", "c8"]
    assert made.passed_over["c2"] == "its place is needed for a quota"


def test_a_quota_that_cannot_be_met_is_said_and_costs_no_place():
    quota = Quota.parse("tag:x>=0.5")
    made = shortlist(ORDER, 4, quotas={quota: frozenset({"c9"})})
    assert made.ids == ["c0", "c1", "c2", "c9"]
    assert made.unmet == {"tag:x>=0.5": 0.25}


def test_near_duplicates_leave_the_best_of_them():
    angles = np.radians([0, 1, 90, 91, 45, 180, 0, 270, 10, 200])
    sketches = dict(zip(ORDER, np.stack([np.cos(angles), np.sin(angles)], 1) * 7, strict=True))
    made = shortlist(ORDER, 4, collapse=0.99, sketches=lambda ids: np.asarray([sketches[i] for i in ids], np.float32))
    assert made.ids == ["c0", "c2", "c4", "c5"]
    assert made.passed_over == {"c1": "nearly the gradient of c0", "c3": "nearly the gradient of c2"}


def test_clips_without_a_sketch_are_copies_of_nothing():
    made = shortlist(ORDER, 3, collapse=0.5, sketches=lambda ids: np.full((len(ids), 4), np.nan, np.float32))
    assert made.ids == ["c0", "c1", "c2"]


@given(
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.integers(1, 30),
    st.sampled_from([0, 0.1, 0.34, 0.5, 1]),
    st.sampled_from([0, 0.1, 0.34, 0.5, 1]),
)
def test_quotas_hold_and_the_rest_is_the_best(first, second, count, most, least):
    order = [f"c{n:02d}" for n in range(30)]
    upper, lower = Quota.parse(f"tag:a<={most}"), Quota.parse(f"tag:b>={least}")
    members = {
        upper: frozenset(i for i, member in zip(order, first, strict=True) if member),
        lower: frozenset(i for i, member in zip(order, second, strict=True) if member),
    }
    made = shortlist(order, count, quotas=members)
    taken = set(made.ids)
    assert made.ids == sorted(taken)
    assert len(taken) == len(made.ids) <= count
    assert len(taken & members[upper]) <= np.floor(round(most * count, 9))
    wanted = budget_count(least, count)
    reached = len(taken & members[lower])
    assert reached >= wanted or made.unmet == {lower.text: reached / count}
    if len(taken) < count:  # then nothing that could be taken was left
        assert set(order) - taken <= members[upper]
    if not first.count(True) and reached > wanted:  # without an upper quota: no better clip was left for a worse one
        assert made.ids == order[:count]


def test_a_large_order_is_collapsed_as_one_by_one():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 16)).astype(np.float32)
    vectors = base[rng.integers(0, 300, 2500)] + 0.01 * rng.normal(size=(2500, 16)).astype(np.float32)
    order = [f"{n:04d}" for n in range(2500)]
    made = shortlist(order, 280, collapse=0.99, sketches=lambda ids: vectors[[int(i) for i in ids]])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected: list[int] = []
    for n in range(2500):
        if len(expected) < 280 and all(unit[n] @ unit[k] < 0.99 for k in expected):
            expected.append(n)
    assert made.ids == [order[n] for n in expected]
