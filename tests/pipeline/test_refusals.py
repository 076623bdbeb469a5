"""What would spoil a ranking without a word is planted, and has to be refused or said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from motive_fo.attribution.batched import BatchedGradients
from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import AttributionConfig, InfluenceConfig
from motive_fo.errors import FailureLimitError, StoreError
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.refusals import FEWEST_FAILURES, OUTLYING, ScoreSpread, outlying_gradients
from motive_fo.pipeline.scoring import score
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status


def _norms(count, spread=0.3):
    return np.exp(np.random.default_rng(0).normal(2, spread, (count, 1, 2)))


@pytest.mark.parametrize("side", [UNMASKED, MASKED])
@pytest.mark.parametrize("times", [1e3, 1e-3])
def test_a_gradient_a_thousand_times_the_others_is_found(side, times):
    norms = _norms(200)
    norms[17, 0, side] *= times
    (found,) = outlying_gradients([f"c{n}" for n in range(200)], norms)
    assert found.id == "c17"
    assert found.times == pytest.approx(times, rel=2)


def test_what_differs_as_clips_do_is_not_outlying():
    assert outlying_gradients([str(n) for n in range(5000)], _norms(5000, spread=1.0)) == []
    assert outlying_gradients([str(n) for n in range(100)], np.full((100, 3, 2), 7.0)) == []
    almost = np.full((100, 1, 2), 7.0)
    almost[3] *= 1.2  # a fifth: nothing, however alike the others are
    assert outlying_gradients([str(n) for n in range(100)], almost) == []
    almost[3] *= 1.2
    assert len(outlying_gradients([str(n) for n in range(100)], almost)) == 1


def test_outliers_hide_neither_each_other_nor_behind_missing_ones():
    """A third of the clips is broken: mean and standard deviation would call none of them outlying."""
    norms = _norms(90, spread=0.1)
    norms[:28] *= 1e6
    norms[40:60, :, MASKED] = np.nan  # static clips
    found = {outlier.id for outlier in outlying_gradients([str(n) for n in range(90)], norms)}
    assert found == {str(n) for n in range(28)}
    log = np.log(norms[:, 0, 0])
    assert (np.abs(log - log.mean()) < OUTLYING * log.std()).all()


def _run(path, records, settings, role="train", **more):
    with RunStore(path, write=True) as store:
        return compute_sketch_table(records, store, settings, role, **more)


@pytest.fixture(scope="module")
def moving(corpus):
    return [p for p in corpus.train if p not in (*corpus.static, *corpus.damaged)] + list(corpus.queries)


@pytest.fixture(scope="module")
def clips(moving):
    return [ClipRecord(f"c{n}", moving[n % len(moving)], f"caption {n}") for n in range(9)]


def test_an_outlying_gradient_is_said_by_the_step(tmp_path, clips, settings, monkeypatch):
    real, calls = BatchedGradients.sketches, []

    def long(self, tasks):
        made = real(self, tasks)
        calls.append(1)
        if len(calls) == 1:
            made[3] = dataclasses.replace(made[3], sketch_2D=made[3].sketch_2D * 1e4, norm_2=made[3].norm_2 * 1e4)
        return made

    assert not [note for note in _run(tmp_path / "a.zarr", clips, settings).notes if "outlying" in note]
    monkeypatch.setattr(BatchedGradients, "sketches", long)
    (note,) = [note for note in _run(tmp_path / "b.zarr", clips, settings).notes if "outlying" in note]
    assert note.startswith("1 of 9 clips have a gradient of outlying length: c3 (")


def test_gradients_that_are_exactly_zero_are_refused(tmp_path, clips, settings, motion_settings):
    model = TinyModel.random(1)
    for parameter in model.network.parameters():
        torch.nn.init.zeros_(parameter)  # nothing reaches the blocks: their gradient is zero
    inner = GradientSettings.build(motion_settings, AttributionConfig(include=("blocks.*",)), model)
    report = _run(tmp_path / "r.zarr", clips[:2], inner)
    assert report.codes == {"zero_gradient": 2}
    table = RunStore(tmp_path / "r.zarr").sketches("train")
    assert np.isnan(table.read("sketch", ["c0", "c1"])).all()


# -- scores -----------------------------------------------------------------------------------------------------------


def _store_of(path, train_ND, query_QD):
    """A store with these sketches, masked and unmasked alike."""
    ids = {"train": [f"t{n}" for n in range(len(train_ND))], "query": [f"q{n}" for n in range(len(query_QD))]}
    store = RunStore(path, write=True)
    columns = {"sketch": Column("float32", (2, train_ND.shape[1])), "norm": Column("float64", (2,))}
    columns |= {"loss": Column("float64", (2,)), "squares": Column("float64", (1, 2))}

    for role, sketches in (("train", train_ND), ("query", query_QD)):
        tables = store.sketches(role, samples_of((750.0,), (0,)), columns, {"model": "planted"}, ["all"])
        (table,) = tables.tables.values()
        table.claim({"model": "planted"}, {"packages": {}, "python": "", "machine": "", "device": ""})
        for clip_id, sketch in zip(ids[role], sketches, strict=True):
            table.put(Row(clip_id, Status.DONE, values={"sketch": np.stack([sketch, sketch])}))
        table.flush()
    return store, ids


def test_a_query_with_one_score_for_all_is_left_out(tmp_path):
    rng = np.random.default_rng(1)
    train = rng.normal(size=(20, 16)).astype(np.float32)
    train[:, 0] = 0
    blind = np.eye(16, dtype=np.float32)[0]  # at a right angle to every training clip
    seeing = rng.normal(size=16).astype(np.float32)
    store, ids = _store_of(tmp_path / "r.zarr", train, np.stack([blind, seeing]))
    with store:
        scores, report = score(ids["train"], ids["query"], store, InfluenceConfig())
        assert scores.query_ids == ["q1"]
        assert scores.refused == {"q0": "constant_scores"}
        assert any("q0 (constant_scores)" in note for note in report.notes)
        assert store.scores("motion").query_ids == ["q1"]
        alone, _ = score(ids["train"], ["q1"], store, InfluenceConfig())
        assert np.array_equal(scores.motion_QN, alone.motion_QN)


def test_scores_that_are_all_alike_are_refused_and_the_last_ones_kept(tmp_path):
    rng = np.random.default_rng(1)
    train = rng.normal(size=(20, 16)).astype(np.float32)
    train[:, 0] = 0
    store, ids = _store_of(tmp_path / "r.zarr", train, np.stack([np.eye(16)[0], rng.normal(size=16)]))
    with store:
        kept, _ = score(ids["train"], ["q1"], store, InfluenceConfig())
        with pytest.raises(StoreError, match="the same score for every query"):
            score(ids["train"], ["q0"], store, InfluenceConfig())
        assert np.array_equal(store.scores("motion").read(), kept.motion_QN)


def test_the_spread_of_scores_is_that_of_scored_clips():
    spread = ScoreSpread(2)
    spread.add(np.asarray([[0.5, np.nan], [0.1, 0.9]]))
    assert not spread.alike_Q.any()  # one clip says nothing
    spread.add(np.asarray([[0.5, 0.5], [0.2, 0.3]]))
    assert spread.alike_Q.tolist() == [True, False]


# -- failures ---------------------------------------------------------------------------------------------------------


def _broken(folder, count):
    folder.mkdir(exist_ok=True)
    made = []
    for n in range(count):
        path = folder / f"broken-{n}.mp4"
        path.write_bytes(b"no video %d" % n)
        made.append(ClipRecord(f"broken-{n}", path, ""))
    return made


@pytest.mark.parametrize("step", ["motion", "gradients"])
def test_a_step_stops_where_most_clips_fail_and_keeps_what_it_has(tmp_path, clips, settings, motion_settings, step):
    chosen = [clips[0], *_broken(tmp_path / "b", 15), *clips[1:4]]

    def run(**more):
        with RunStore(tmp_path / "r.zarr", write=True) as store:
            if step == "motion":
                return compute_motion_table(chosen, store, motion_settings, **more)
            return compute_sketch_table(chosen, store, settings, "train", **more)

    with pytest.raises(FailureLimitError, match=r"10 of 19 clips failed.*10 not_video.*--max-failed 1") as raised:
        run(max_failed=0.5)
    assert "\n" not in str(raised.value)
    store = RunStore(tmp_path / "r.zarr")
    table = store.table("motion") if step == "motion" else store.sketches("train")
    assert table.status("c0") == Status.DONE
    assert sum(table.status(r.id) == Status.FAILED for r in chosen) == FEWEST_FAILURES
    with pytest.raises(FailureLimitError):  # nothing has changed: it does not begin anew
        run(max_failed=0.5)
    report = run(max_failed=0.9)
    assert report.computed == 8  # the rest
    assert report.status == {"done": 4, "failed": 15}


def test_few_failures_and_a_limit_that_is_not_passed_stop_nothing(tmp_path, clips, motion_settings):
    few = _broken(tmp_path / "b", FEWEST_FAILURES - 1)
    with RunStore(tmp_path / "few.zarr", write=True) as store:
        assert compute_motion_table(few, store, motion_settings, max_failed=0.0).codes == {"not_video": len(few)}
    half = [*clips[:6], *_broken(tmp_path / "c", 12)]
    with RunStore(tmp_path / "half.zarr", write=True) as store:
        assert compute_motion_table(half, store, motion_settings, max_failed=2 / 3).status["failed"] == 12


def test_mended_files_get_another_chance(tmp_path, clips, motion_settings):
    broken = _broken(tmp_path / "b", 12)
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        with pytest.raises(FailureLimitError):
            compute_motion_table(broken, store, motion_settings, max_failed=0.5)
        for record in broken:
            record.path.write_bytes(clips[0].path.read_bytes())
        assert compute_motion_table(broken, store, motion_settings, max_failed=0.5).status["failed"] == 0
