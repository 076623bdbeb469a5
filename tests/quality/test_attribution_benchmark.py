"""The benchmark of attribution: its corpus, that it repeats, and that its controls are at chance."""

import json

import numpy as np
import pytest

from benchmarks.attribution import removal, second_base, trials, variations
from benchmarks.attribution.bench import BenchSetting
from benchmarks.attribution.choices import (
    ALL_CLEAN,
    CLEAN_RANDOM,
    PAPER,
    RANDOM,
    SCORES,
    TARGETS,
    THREE,
    THREE_T,
    WHOLE,
)
from benchmarks.attribution.corpus import MOTIONS, REPORT, render_corpus, scene
from benchmarks.attribution.evidence import PROTOCOL, EvidenceSetting, contrasts, make, opened, t_interval
from benchmarks.attribution.losses import MOTION
from benchmarks.attribution.methods import ONE, Extent, damped, variants
from benchmarks.attribution.pool import HELD_OUT, POOL
from benchmarks.attribution.protocol import Setting, run
from benchmarks.attribution.training import Recipe
from motive_fo.config import AttributionConfig, InfluenceConfig
from motive_fo.influence.selection import budget_count
from motive_fo.synthetic.pool import Mix


def test_every_motion_is_one_camera_before_a_still_object():
    for motion, (name, cameras, _) in enumerate(MOTIONS.values()):
        drawn = [scene(0, 0, motion, index) for index in range(30)]
        assert {each.camera for each in drawn} == set(cameras)
        assert {(each.motion, each.action) for each in drawn} == {(name, "still")}
        assert len({each.seed for each in drawn}) == 30
    assert scene(0, 0, 2, 5) == scene(0, 0, 2, 5)
    assert len({scene(seed, role, 1, 0).seed for seed in range(3) for role in range(3)}) == 9


def test_queries_and_gallery_share_no_scene_and_relevance_is_the_motion(tmp_path):
    corpus = render_corpus(tmp_path, scale=0.04, tune=1, report=1, seed=0)
    assert np.bincount(corpus.motions["gallery"]).tolist() == [1, 1, 2, 1, 2, 1]
    assert corpus.relevant(REPORT).sum(1).tolist() == [1, 1, 2, 1, 2, 1]
    contents = [record.path.read_bytes() for records in corpus.records.values() for record in records]
    assert len(set(contents)) == len(contents) == 20
    again = tmp_path / "again"
    again.mkdir()
    render_corpus(again, scale=0.04, tune=1, report=1, seed=0)
    assert len(list(tmp_path.glob("*.mov"))) == 20
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in tmp_path.glob("*.mov"))


def test_the_first_variant_is_the_default_of_one_timestep():
    named = variants((300.0, ONE))
    assert next(iter(named.values())) == InfluenceConfig(timesteps=(ONE,), noises=(0,))
    every = damped(named)
    assert set(named) < set(every)
    assert len(set(map(repr, every.values()))) == len(every)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_seed_gives_the_same_numbers_and_controls_are_at_chance(tmp_path):
    setting = Setting(
        BenchSetting(scale=0.1, tune=1, report=2, recipe=Recipe(steps=2, batch=4)),
        Extent((ONE,), experiments=False, noises=(0,)),
        ("camera",),
    )
    results = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        results.append(run(tmp_path / name, setting))
    assert json.dumps(results[0].more) == json.dumps(results[1].more)
    assert results[0].rows == results[1].rows
    found = {item["goal"]: item["value"] for item in results[0].goals}
    for control in ("random ids", "permuted ids"):
        assert found[f"camera: {control}: figures whose interval leaves chance out"] == 0
    rows = {row["scores by"]: row for row in results[0].rows}
    assert float(rows["chance"]["MRR"]) < float(rows["HOOF"]["MRR"]) <= 1 == float(rows["attainable"]["MRR"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_evidence_repeats_itself_and_its_sets_hold_what_they_say(tmp_path):
    setting = EvidenceSetting(
        (90,),
        (("zigzag",), ("throw",)),
        {"size": 40, "queries": 2, "held_out": 6, "known": 1, "mix": Mix(targets=0.4)},
        seeds=1,
        recipe=Recipe(steps=8, batch=8, learning_rate=3e-4),
    )
    cells, kinds = make(tmp_path, setting, 90, lambda what, done, count: None)
    again, _ = make(tmp_path, setting, 90, lambda what, done, count: pytest.fail("nothing is trained again"))
    assert cells == again
    rerun = make(tmp_path / "other", setting, 90, lambda what, done, count: None)
    assert rerun == (cells, kinds)
    for cell in cells:
        rows = cell["rows"]
        assert list(rows) == PROTOCOL["rows"]
        assert rows[TARGETS]["targets"] == 1
        assert rows[TARGETS]["harmful"] == rows[CLEAN_RANDOM]["harmful"] == rows[ALL_CLEAN]["harmful"] == 0
        assert rows[WHOLE]["harmful"] == round(14 / 40, 3)
        assert rows[WHOLE]["targets"] == 0.2
        assert set(rows[WHOLE]["taken"].values()) == {1}
        assert {sort for sort, share in rows[TARGETS]["taken"].items() if share} == {"wanted"}
    found = contrasts(cells)[THREE_T]
    own, clean, targets = ([each["rows"][way]["motion"] for each in cells] for way in (THREE_T, CLEAN_RANDOM, TARGETS))
    of_sums = (sum(own) - sum(clean)) / (sum(targets) - sum(clean))
    assert found["gain"]["of sums"] == pytest.approx(of_sums, abs=1e-3)
    others = [each["rows"][THREE_T]["other"] for each in cells]
    assert found["over other queries"]["mean"] == pytest.approx(np.mean(np.subtract(own, others)), abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_clips_of_a_motion_teach_it_and_random_ones_do_not(tmp_path):
    """The control without which no row means anything, on a motion that is easily learned."""
    setting = EvidenceSetting(
        (90,),
        (("throw",), ("spiral",)),
        {"size": 100, "queries": 1, "held_out": 6, "known": 1, "mix": Mix(targets=0.5)},
        seeds=1,
        recipe=Recipe(steps=30, batch=8, learning_rate=3e-4),
        budget=0.25,
    )
    choices, made = opened(tmp_path, setting, 90, lambda what, done, count: None)
    held = choices.pool.of_kinds(HELD_OUT, ("spiral",))
    wanted = choices.asked(TARGETS, ("spiral",))
    assert len(wanted) == 25
    random = [choices.unasked(RANDOM, seed) for seed in range(3)]
    fall, *by_chance = (made.fall([places])[MOTION, held].mean() for places in (wanted, *random))
    assert fall > 1  # above the base, whose own fall is 0
    assert fall > np.mean(by_chance) + 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_weighs_nothing_teaches_nothing_and_the_other_tables_are_whole(tmp_path):
    def silent(what, done, count):
        pass

    choices, made = opened(tmp_path, removal.FAST.evidence, 90, silent)
    every = np.arange(len(choices.pool.clips[POOL]))
    assert np.abs(made.fall_without(every)).max() < 0.05
    assert np.abs(made.fall_without(every[:0])).max() > 0.05
    kept = choices.asked("without the worst third", made.setting.worlds[0])
    assert len(kept) == len(every) - budget_count(0.34, len(every))
    still = np.flatnonzero([clip.harm == "frozen" for clip in choices.pool.clips[POOL]])
    assert len(still) > 0
    assert not np.isin(still, kept).any()
    taken = removal.run(tmp_path, removal.FAST, silent)
    assert [row["which"] for row in taken.rows] == [TARGETS, f"best by {THREE_T}", f"best by {PAPER}", RANDOM]
    variation = variations.run(tmp_path, variations.FAST, silent)
    (varied,) = variation.rows
    assert np.isfinite([float(varied[way]) for way in (RANDOM, CLEAN_RANDOM, THREE_T, TARGETS)]).all()
    # the same weights as another base: all of it is made anew, and is the same
    second = second_base.run(tmp_path, second_base.FAST, silent)
    for one, other in zip(second.more["cells"], variation.more["cells"]["as it is"], strict=True):
        assert {way: row for way, row in one["rows"].items() if way != PAPER} == other["rows"]
    tried = trials.run(tmp_path, trials.FAST, silent)
    assert {row["verdict"] for row in tried.rows} <= {"use it", "take more draws", "do not"}
    assert len(tried.rows) == 4


def test_the_protocol_measures_the_default():
    assert tuple(PROTOCOL["timesteps"]) == THREE == AttributionConfig().timesteps
    default, measured = InfluenceConfig(), SCORES[PROTOCOL["default_candidate"]]
    assert (measured.mask_side, measured.combine) == (default.mask_side, default.combine)
    assert (measured.kernel, measured.center) == (default.kernel, default.center)


def test_an_interval_of_cells_is_students():
    found = t_interval([0.5, 0.7, 0.9])
    assert found["mean"] == 0.7
    assert found["high"] - 0.7 == pytest.approx(4.303 * 0.2 / 3**0.5, abs=2e-3)
