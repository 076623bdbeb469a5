"""Estimators by name, and what ``auto`` means on a machine."""

from __future__ import annotations

import pytest
import torch

from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.doctor import examine
from motive_fo.errors import InputError
from motive_fo.flow.alltracker import build_network
from motive_fo.flow.registry import build_estimator, settle_estimator
from motive_fo.models.registry import model_card
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alltracker_tiny.pth"
    torch.manual_seed(0)
    torch.save({"model": build_network("tiny").state_dict()}, path)
    return path


def test_without_weights_auto_is_dis_and_nothing_is_fetched(monkeypatch):
    def fetch(*_args, local_files_only=False, **_more):
        assert local_files_only, "auto must not download"
        raise FileNotFoundError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert settle_estimator(FlowConfig()).estimator == "dis"
    assert build_estimator(FlowConfig()).identity("step")["estimator"] == "dis"


def test_with_weights_auto_is_alltracker(monkeypatch, tmp_path):
    path = tmp_path / "full.pth"
    path.write_bytes(b"of which only the place matters here")
    monkeypatch.setenv("MOTIVE_ALLTRACKER_WEIGHTS", str(path))
    assert settle_estimator(FlowConfig()).estimator == "alltracker"
    assert settle_estimator(FlowConfig(estimator="farneback")).estimator == "farneback"


def test_by_name_without_weights_it_says_what_to_do(monkeypatch):
    def offline(*_args, **_more):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(
        InputError, match=r"put alltracker\.pth .* or use an estimator that needs none: dis or farneback"
    ):
        build_estimator(FlowConfig(estimator="alltracker"))


@pytest.mark.parametrize("reading", ["step", "anchor"])
def test_the_motion_step_by_alltracker(tmp_path, tiny_weights, reading):
    corpus = write_corpus(tmp_path, train=1, queries=0, seed=1, size=(64, 64), seconds=1.25, fps=16)
    flow = FlowConfig(
        estimator="alltracker-tiny",
        reading=reading,
        tracker_weights=str(tiny_weights),
        tracker_size=64,
        tracker_iterations=1,
    )
    settings = MotionSettings.build(ClipConfig(frames=5), flow, MotionConfig(), model_card("tiny"))
    assert settings.identity()["flow"]["weights"] == settings.estimator.weights.sha256
    with RunStore(tmp_path / "run.zarr", write=True) as store:
        report = compute_motion_table([ClipRecord(p.name, p) for p in corpus.train], store, settings)
    assert report.status == {"done": 1}


def test_the_doctor_says_which_estimators_are_ready_and_why_not(database, monkeypatch, tiny_weights):
    monkeypatch.setenv("MOTIVE_ALLTRACKER_TINY_WEIGHTS", str(tiny_weights))
    said = {f.text for f in examine() if f.subject == "flow"}
    assert "dis and farneback are ready and need no weights" in said
    assert any(text.startswith("alltracker: the weights of alltracker are not on this machine: put ") for text in said)
    assert any(text.startswith("alltracker-tiny: ") and "not the official file" in text for text in said)
    assert "a new run takes dis where nothing else is asked for" in said
