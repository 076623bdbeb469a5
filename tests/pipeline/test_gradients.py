"""The gradient step: the same sketch alone, in any order and after any interruption."""

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import zarr

from motive_fo.attribution.batched import BatchedGradients
from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import AttributionConfig, InfluenceConfig
from motive_fo.errors import ClipError, StoreError, StoreMismatchError
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline import motion as motion_module
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import score
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Status

NAME = "t750.748-n0"


def _run(path, records, settings, role="train", **more):
    with RunStore(path, write=True) as store:
        return compute_sketch_table(records, store, settings, role, **more), store.sketches(role)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, records, settings):
    """The undisturbed run: path of its store."""
    path = tmp_path_factory.mktemp("whole") / "r.zarr"
    _run(path, records["query"], settings, "query")
    _run(path, records["train"], settings)
    return path


def test_every_clip_is_sketched_static_or_coded(whole, corpus, records):
    table = RunStore(whole).sketches("train")
    for record in records["train"]:
        sketch = table.read("sketch", [record.id])[0]
        norm, loss = table.read("norm", [record.id])[0], table.read("loss", [record.id])[0]
        status = table.status(record.id)
        squares = table.read("squares", [record.id])[0]
        assert sketch.shape == (1, 2, 512)
        assert squares.shape == (1, len(table.groups), 2)
        if record.path in corpus.damaged:
            assert status == Status.FAILED
            assert np.isnan(sketch).all()
            assert table.read("code", [record.id])[0]
        else:
            moving = record.path not in corpus.static
            assert status == (Status.DONE if moving else Status.STATIC)
            assert np.isfinite(sketch[0, UNMASKED]).all()
            assert np.isfinite(sketch[0, MASKED]).all() == moving
            np.testing.assert_allclose(squares[0, :, UNMASKED].sum(), norm[0, UNMASKED] ** 2)
            assert norm[0, UNMASKED] > 0
            assert loss[0, UNMASKED] > 0
            # an unbiased map keeps the norm to within its spread
            assert abs(np.linalg.norm(sketch[0, UNMASKED]) / norm[0, UNMASKED] - 1) < 0.25


@pytest.mark.parametrize("order", ["alone", "reversed", "shuffled"])
def test_a_sketch_is_the_same_alone_and_in_any_order(whole, tmp_path, records, settings, order):
    chosen = list(records["train"])
    if order == "alone":
        chosen = chosen[2:3]
    elif order == "reversed":
        chosen.reverse()
    else:
        random.Random(1).shuffle(chosen)
    _, table = _run(tmp_path / "r.zarr", chosen, settings)
    expected = RunStore(whole).sketches("train")
    ids = [record.id for record in chosen]
    for column in ("sketch", "norm", "loss", "squares"):
        assert np.array_equal(table.read(column, ids), expected.read(column, ids), equal_nan=True)
    assert table.read("code", ids).tolist() == expected.read("code", ids).tolist()


def test_new_clips_and_queries_touch_nothing_that_is_there(whole, tmp_path, records, settings, monkeypatch):
    path = tmp_path / "r.zarr"
    _run(path, records["train"][:5], settings)
    before = {p: p.read_bytes() for p in (path / "train" / NAME / "sketch").rglob("*") if p.is_file()}
    _run(path, records["query"], settings, "query")
    assert {p: p.read_bytes() for p in before} == before
    calls = []
    real = BatchedGradients.sketches
    monkeypatch.setattr(BatchedGradients, "sketches", lambda self, tasks: calls.extend(tasks) or real(self, tasks))
    report, table = _run(path, records["train"], settings)
    assert report.computed == len(records["train"]) - 5
    assert len(calls) == 2  # one more that moves, one static; the damaged ones never get that far
    ids = [record.id for record in records["train"]]
    expected = RunStore(whole).sketches("train").read("sketch", ids)
    assert np.array_equal(table.read("sketch", ids), expected, equal_nan=True)


def test_motion_that_is_known_is_not_estimated_again(whole, tmp_path, records, settings):
    path = tmp_path / "r.zarr"
    shutil.copytree(whole, path)
    shutil.rmtree(path / "train")
    report, _ = _run(path, records["train"][:3], settings)
    assert report.computed == 3
    assert "flow" not in report.seconds


def test_a_changed_caption_is_another_clip(tmp_path, records, settings):
    path = tmp_path / "r.zarr"
    _, table = _run(path, records["train"][:2], settings)
    old = table.read("sketch", [records["train"][0].id])
    changed = [dataclasses.replace(records["train"][0], caption="something else"), records["train"][1]]
    report, table = _run(path, changed, settings)
    assert report.computed == 1
    assert not np.array_equal(table.read("sketch", [changed[0].id]), old)


def test_a_copy_under_another_name_is_refused(tmp_path, records, settings):
    copy = tmp_path / "copy.mp4"
    shutil.copy2(records["train"][0].path, copy)
    chosen = [records["train"][0], ClipRecord("copy", copy, records["train"][0].caption)]
    report, table = _run(tmp_path / "r.zarr", chosen, settings)
    assert report.codes == {"duplicate_clip": 1}
    assert records["train"][0].id in table.read("message", ["copy"])[0]
    assert np.isnan(table.read("sketch", ["copy"])).all()
    again = _run(tmp_path / "r.zarr", chosen, settings, retry_failed=True)[0]
    assert again.codes == {"duplicate_clip": 1}  # found from the store alone, in another process's place


def test_a_model_that_sees_no_difference_is_noticed(tmp_path, records, settings, monkeypatch):
    constant = np.zeros((17, 64, 64, 3), np.uint8)
    real = TinyModel.encode_frames
    monkeypatch.setattr(TinyModel, "encode_frames", lambda self, frames: real(self, constant))
    chosen = [dataclasses.replace(r, caption="the same") for r in records["train"][:3]]
    monkeypatch.setattr(motion_module, "motion_row", _constant_motion(motion_module.motion_row))
    report, _ = _run(tmp_path / "r.zarr", chosen, settings)
    assert report.codes == {"repeated_sketch": 2}


def _constant_motion(real):
    def made(*args):
        row = real(*args)
        return dataclasses.replace(row, values={**row.values, "mask": np.ones((5, 8, 8), np.float32)})

    return made


def test_weights_that_are_not_finite_never_store_a_sketch(tmp_path, records, settings):
    model = TinyModel.random(1)
    next(iter(model.network.parameters())).data.fill_(float("nan"))
    broken = dataclasses.replace(settings, model=model)
    report, table = _run(tmp_path / "r.zarr", records["train"][:2], broken)
    assert report.codes == {"nonfinite_gradient": 2}
    assert np.isnan(table.read("sketch", [r.id for r in records["train"][:2]])).all()


def test_a_model_that_raises_is_recorded_on_the_clip(tmp_path, records, settings, monkeypatch):
    def refuse(self, caption):
        raise ValueError("no such word")

    monkeypatch.setattr(TinyModel, "encode_caption", refuse)
    report, table = _run(tmp_path / "r.zarr", records["train"][:1], settings)
    assert report.codes == {"encode_failed": 1}
    assert table.read("message", [records["train"][0].id])[0] == "ValueError: no such word"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_clip_that_memory_is_too_short_for_is_recorded_and_can_be_tried_again(
    tmp_path, records, settings, monkeypatch, error
):
    real, first, second = BatchedGradients.sketches, *records["train"][:2]
    calls = []

    def short(self, tasks):
        calls.append(tasks)
        if len(calls) <= 2:  # both clips at once, then the first alone
            raise error
        return real(self, tasks)

    monkeypatch.setattr(BatchedGradients, "sketches", short)
    report, table = _run(tmp_path / "r.zarr", [first, second], settings)
    assert report.codes == {"out_of_memory": 1}
    assert [table.status(r.id).name for r in (first, second)] == ["FAILED", "DONE"]
    report, table = _run(tmp_path / "r.zarr", [first, second], settings, retry_failed=True)
    assert report.computed == 1
    assert table.status(first.id).name == "DONE"


def test_an_encoder_that_memory_is_too_short_for_is_no_fault_of_the_clip(tmp_path, records, settings, monkeypatch):
    def short(self, frames):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TinyModel, "encode_frames", short)
    report, _ = _run(tmp_path / "r.zarr", records["train"][:1], settings)
    assert report.codes == {"out_of_memory": 1}


def test_a_clip_that_starts_elsewhere_in_its_file_is_another_clip(tmp_path, records, settings):
    path, (first, second) = tmp_path / "r.zarr", records["train"][:2]
    _, table = _run(path, [first, second], settings)
    before = table.read("sketch", [first.id])
    moved = dataclasses.replace(first, start=0.25)
    report, table = _run(path, [moved, second], settings)
    assert report.computed == 1
    assert not np.array_equal(table.read("sketch", [first.id]), before)
    assert RunStore(path).table("motion").read("content", [first.id])[0].endswith("@0.25")
    report, _ = _run(path, [moved, second], settings)
    assert report.computed == 0


def test_other_weights_filters_or_maps_are_refused(whole, tmp_path, records, settings, motion_settings):
    path = tmp_path / "r.zarr"
    shutil.copytree(whole, path)
    other_model = dataclasses.replace(settings, model=TinyModel.random(2))
    with pytest.raises(StoreMismatchError, match="model"):
        _run(path, records["train"], other_model)
    for changed, field in (
        ({"seed": 7}, "projection.seed"),
        ({"exclude": ("*.bias",)}, "parameters.exclude"),
        ({"timesteps": (500.0,), "projection": "fastfood"}, "projection.map"),  # another timestep does not hide it
    ):
        other = GradientSettings.build(
            motion_settings, dataclasses.replace(settings.attribution, **changed), settings.model
        )
        with pytest.raises(StoreMismatchError, match=field):
            _run(path, records["train"], other)
    assert [str(sample) for sample in RunStore(path).sketches("train").stored] == ["timestep 750.748, noise 0"]


def test_randomised_weights_change_the_ranking(whole, tmp_path, records, motion_settings):
    other = GradientSettings.build(motion_settings, AttributionConfig(timesteps=(750.748,)), TinyModel.random(9))
    path = tmp_path / "r.zarr"
    _run(path, records["query"], other, "query")
    _run(path, records["train"], other)
    one, two = (_scores(p, records).motion_QN for p in (whole, path))
    assert not np.allclose(one, two, atol=0.01, equal_nan=True)


def _scores(path, records, mask_side="both"):
    with RunStore(path, write=True) as store:
        ids = {role: [record.id for record in chosen] for role, chosen in records.items()}
        return score(ids["train"], ids["query"], store, InfluenceConfig(mask_side=mask_side))[0]


def test_scores_are_missing_where_the_sketch_is(whole, tmp_path, corpus, records):
    path = tmp_path / "r.zarr"
    shutil.copytree(whole, path)
    failed = [record.path in corpus.damaged for record in records["train"]]
    static = [record.path in corpus.static for record in records["train"]]
    for side in ("both", "train"):
        missing = np.isnan(_scores(path, records, side).motion_QN).all(0)
        assert missing.tolist() == [f or s for f, s in zip(failed, static, strict=True)]
    for side in ("query", "none"):
        assert np.isnan(_scores(path, records, side).motion_QN).all(0).tolist() == failed
    scores = _scores(path, records, "none")
    assert np.array_equal(scores.motion_QN, scores.whole_QN, equal_nan=True)
    kept = RunStore(path).read_scores("whole")
    assert np.array_equal(kept[0], scores.whole_QN, equal_nan=True)
    assert kept[1] == scores.query_ids


def test_a_clip_as_its_own_query_has_influence_one(tmp_path, records, settings):
    path = tmp_path / "r.zarr"
    twins = {"train": records["train"][:3], "query": records["train"][1:2]}
    _run(path, twins["query"], settings, "query")
    _run(path, twins["train"], settings)
    scores = _scores(path, twins)
    assert scores.motion_QN[0, 1] == pytest.approx(1, abs=1e-6)
    assert scores.whole_QN[0, 1] == pytest.approx(1, abs=1e-6)


def test_static_and_failed_queries_are_refused_by_name(whole, tmp_path, corpus, records, settings):
    path = tmp_path / "r.zarr"
    shutil.copytree(whole, path)
    bad = [r for r in records["train"] if r.path in corpus.static or r.path in corpus.damaged]
    _run(path, bad, settings, "query")
    ids = [r.id for r in records["train"]]
    with RunStore(path, write=True) as store:
        scores, report = score(ids, [*(r.id for r in bad), records["query"][0].id], store, InfluenceConfig())
        assert scores.query_ids == [records["query"][0].id]
        assert set(scores.refused.values()) >= {"static", "too_short"}
        assert "left out" in report.notes[0]
        with pytest.raises(StoreError, match="none of the 6 queries can be used"):
            score(ids, [r.id for r in bad], store, InfluenceConfig())
        with pytest.raises(StoreError, match="1 of 1 training clips have no gradients yet"):
            score(["new"], [records["query"][0].id], store, InfluenceConfig())


def test_unknown_clip_codes_cannot_be_raised():
    with pytest.raises(KeyError, match="add it to CLIP_CODES"):
        ClipError("decode", "whoops", "x")


_CHILD = """
import sys
from pathlib import Path
from motive_fo.config import *
from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store import table
from motive_fo.store.run_store import RunStore
table.FLUSH_SECONDS = 0.0  # a row is written as soon as it is there: more moments to be killed in
motion = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), CARD)
settings = GradientSettings.build(motion, AttributionConfig(timesteps=(750.748,), noises=(0, 1)), TinyModel.random(1))
files = [Path(p) for p in sys.argv[2:]]
records = [ClipRecord(f"train/{p.name}", p, f"caption of {p.stem}") for p in files]
print("ready", flush=True)
with RunStore(sys.argv[1], write=True) as store:
    compute_sketch_table(records, store, settings, "train", progress=lambda *a: print(*a, flush=True))
print("finished", flush=True)
"""


def _arrays(path):
    group = zarr.open_group(path, mode="r")
    return {
        f"{name}/{key}": np.asarray(array[:])
        for name in ("motion", *(f"train/{sample}" for sample in group["train"].group_keys()))
        for key, array in group[name].arrays()
    }


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_arbitrary_moments_then_resumed_equals_undisturbed(tmp_path, corpus, rounds):
    """SIGKILL several times at random moments of the gradient step; the same command then finishes an equal store."""
    files = [str(p) for p in corpus.train]
    command = [sys.executable, "-c", _CHILD]
    subprocess.run([*command, str(tmp_path / "whole.zarr"), *files], check=True, stdout=subprocess.DEVNULL)
    rng = random.Random(rounds)
    path = tmp_path / "killed.zarr"
    kills = 0
    for _ in range(rounds):
        with subprocess.Popen([*command, str(path), *files], stdout=subprocess.PIPE, text=True) as process:
            stop_after = rng.randint(2, 4)
            for lines, line in enumerate(process.stdout, 1):
                if line.startswith("finished"):
                    break
                if lines >= stop_after:
                    time.sleep(rng.random() * 0.15)
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
            process.stdout.read()
        if process.returncode == 0:
            break
    subprocess.run([*command, str(path), *files], check=True, stdout=subprocess.DEVNULL)
    assert kills >= 4
    assert sum(name.endswith("/sketch") for name in _arrays(path)) == 2
    whole, killed = _arrays(tmp_path / "whole.zarr"), _arrays(path)
    assert whole.keys() == killed.keys()
    for name in whole:
        equal_nan = whole[name].dtype.kind == "f"
        assert np.array_equal(whole[name], killed[name], equal_nan=equal_nan), name
