"""The look-alike benchmark: its clips move as they are named, it repeats, and what says nothing is at chance."""

import numpy as np
import pytest

from benchmarks import lookalike
from benchmarks.lookalike import CHANCE, HOOF, QUARTERS, Setting, ranks, run
from benchmarks.lookalike_corpus import BINS, MOTIONS, TIMESTEPS, Corpus, draw_clip, measured, sizes
from motive_fo.flow.farneback import FarnebackFlow


def drawn_corpus(seed, clips, known):
    """A corpus of which that is known which a function of motions and a generator makes."""
    motion_N, index_N = np.asarray([(m, i) for m, size in enumerate(sizes(clips)) for i in range(size)]).T
    return Corpus(seed, motion_N, index_N, known(motion_N, np.random.default_rng([7, seed])))


def noise(motion_N, rng):
    names = ("picture", "magnitude", "quarters", *(f"HOOF {bins}" for bins in BINS))
    known = {name: rng.random((len(motion_N), 16)).astype(np.float32) for name in names}
    return known | {"sketch": rng.standard_normal((len(motion_N), len(TIMESTEPS), 2, 16)).astype(np.float32)}


def motion_in_quarters(motion_N, rng):
    known = noise(motion_N, rng)
    return known | {"quarters": np.eye(len(MOTIONS), dtype=np.float32)[motion_N] + 0.1 * known["quarters"][:, :6]}


def test_the_full_table_has_the_published_class_sizes():
    assert sizes(200) == [33, 25, 41, 31, 45, 25]
    assert draw_clip(0, 0, 0).shape == (16, 32, 32)
    assert np.array_equal(draw_clip(1, 4, 2), draw_clip(1, 4, 2))
    assert len({draw_clip(*key).tobytes() for key in np.ndindex(2, 6, 2)}) == 24


@pytest.mark.parametrize("index", [0, 1])
def test_clips_move_as_they_are_named(index):
    flows = {}
    for number, motion in enumerate(MOTIONS):
        frames_THW3 = np.repeat(draw_clip(0, number, index)[..., None], 3, axis=-1)
        flows[motion] = FarnebackFlow().estimate(frames_THW3, "step").flow_THW2[1:].mean(0)
    x, y = np.moveaxis(flows["horizontal pan"].mean((0, 1)), -1, 0)
    assert abs(x) > 5 * abs(y)
    x, y = np.moveaxis(flows["vertical tilt"].mean((0, 1)), -1, 0)
    assert abs(y) > 5 * abs(x)
    x, y = np.moveaxis(flows["diagonal slide"].mean((0, 1)), -1, 0)
    assert 0.5 < abs(x / y) < 2
    turned, zoomed = flows["clockwise rotation"], flows["zoom-in"]
    assert turned[:12, :, 0].mean() > 0.1 > -0.1 > turned[20:, :, 0].mean()
    assert turned[:, 20:, 1].mean() > 0.1 > -0.1 > turned[:, :12, 1].mean()
    assert zoomed[:, 20:, 0].mean() > 0.1 > -0.1 > zoomed[:, :12, 0].mean()
    assert zoomed[20:, :, 1].mean() > 0.1 > -0.1 > zoomed[:12, :, 1].mean()


def test_what_is_measured_of_a_corpus_repeats_to_the_last_bit(tmp_path):
    one, other = (measured(tmp_path / name, 0, 6) for name in ("one", "other"))
    assert one.motion_N.tolist() == list(range(6))
    assert one.known["sketch"].shape == (6, len(TIMESTEPS), 2, 512)
    assert all(np.isfinite(each).all() for each in one.known.values())
    assert all(np.array_equal(other.known[name], each) for name, each in one.known.items())
    kept = (tmp_path / "one").glob("*")
    assert [path.name for path in kept] == ["0-6-1.npz"]


def table(monkeypatch, known, setting):
    """The rows of a table, by clips and name, and its goals."""
    monkeypatch.setattr(lookalike, "measured", lambda _, seed, clips: drawn_corpus(seed, clips, known))
    rows, goals, _ = run(None, setting)
    return {(row["clips"], row["scores by"]): row for row in rows}, goals


def test_scores_that_say_nothing_are_at_chance_and_so_is_the_random_row(monkeypatch):
    rows, goals = table(monkeypatch, noise, Setting(100, (50,), 3))
    for (clips, _), row in rows.items():
        if row["NDCG@20, 95 %"]:
            assert float(row["NDCG@20"]) == pytest.approx(float(rows[clips, CHANCE]["NDCG@20"]), abs=0.04)
    assert [goal["met"] for goal in goals if goal["goal"].startswith("random")] == [True]
    assert not any(goal["met"] for goal in goals if "published" in goal["target"])


def test_the_same_setting_gives_the_same_table(monkeypatch):
    one, other = (table(monkeypatch, noise, Setting(25, (), 2)) for _ in range(2))
    assert one == other


def test_a_row_that_knows_the_motion_is_the_one_seed_0_chooses(monkeypatch):
    rows, goals = table(monkeypatch, motion_in_quarters, Setting(50, (), 2))
    assert rows[49, QUARTERS]["NDCG@20"] == "1.000"
    assert float(rows[49, HOOF]["NDCG@20"]) < 0.4
    (best,) = [goal for goal in goals if "best of ours" in goal["goal"]]
    assert best["goal"].startswith(f"{QUARTERS} (")
    assert best["met"]


def test_merged_ranks_leave_the_clip_itself_out():
    scores = np.array([[9.0, 1, 2, 3], [1, 9, 3, 2], [3, 2, 9, 1], [1, 2, 3, 9]])
    merged = ranks(scores, scores)
    assert (np.diag(merged) == -1).all()
    assert merged[0].tolist() == [-1, 0, 50, 100]
