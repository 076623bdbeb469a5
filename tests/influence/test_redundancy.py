"""Redundancy against pairs compared one by one."""

from __future__ import annotations

import numpy as np
import pytest

from motive_fo.influence.redundancy import redundancy


def test_it_is_what_comparing_every_pair_says():
    rng = np.random.default_rng(0)
    sketch_KD = rng.normal(size=(9, 6)).astype(np.float32)
    ids = [f"c{n}" for n in range(9)]
    found = redundancy(ids, sketch_KD, least=0.6, pairs=4)
    cosine = {
        (a, b): float(sketch_KD[a] @ sketch_KD[b] / np.linalg.norm(sketch_KD[a]) / np.linalg.norm(sketch_KD[b]))
        for a in range(9)
        for b in range(9)
        if a != b
    }
    assert found.nearest_K == pytest.approx([max(cosine[a, b] for b in range(9) if b != a) for a in range(9)], abs=1e-6)
    assert found.mean == pytest.approx(np.mean(list(cosine.values())), abs=1e-6)
    best = sorted(((value, a, b) for (a, b), value in cosine.items() if a < b), reverse=True)[:4]
    assert [(a, b) for a, b, _ in found.closest] == [(f"c{a}", f"c{b}") for _, a, b in best]
    eigenvalues = np.linalg.eigvalsh(np.eye(9) + [[cosine.get((a, b), 0.0) for b in range(9)] for a in range(9)])
    assert found.effective == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-5)


def test_near_duplicates_are_linked_by_chains_and_the_ends_of_the_effective_number_hold():
    angles = np.deg2rad([0, 10, 20, 90, 180])
    sketch_KD = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = redundancy(list("abcde"), sketch_KD, least=float(np.cos(np.deg2rad(11))))
    assert found.near_duplicates == [["a", "b", "c"]]
    assert redundancy(list("abcd"), np.eye(4), least=0.9).effective == pytest.approx(4)
    assert redundancy(list("abc"), np.ones((3, 4)), least=0.9).effective == pytest.approx(1)


def test_clips_without_a_sketch_are_left_out_and_one_alone_is_refused():
    sketch_KD = np.asarray([[1.0, 0], [np.nan, 1], [0, 0], [1, 1]])
    assert redundancy(list("abcd"), sketch_KD, least=0.9).ids == ["a", "d"]
    with pytest.raises(ValueError, match="1 clips have a sketch"):
        redundancy(list("ab"), sketch_KD[:2], least=0.9)
