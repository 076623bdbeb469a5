"""Steps of training on video pipelines: encoders come and go once, and a bfloat16 network is stepped in float32."""

from __future__ import annotations

import uuid

import pytest
import torch

import motive_fo
from motive_fo.dataset.run_record import encodings_folder, load_run, save_run
from motive_fo.errors import ConfigError
from motive_fo.models.diffusion.model import DiffusersModel
from motive_fo.quality import tail_patch
from motive_fo.store.encodings import clear, contents
from motive_fo.synthetic.corpus import write_corpus
from tests.models.pipelines import CLIP

FEW = {"clips": 8, "queries": 3, "resamples": 100}


@pytest.fixture(scope="module")
def dataset(database, tmp_path_factory):
    from motive_fo.dataset.connect import fiftyone

    corpus = write_corpus(
        tmp_path_factory.mktemp("stepped"), train=8, queries=3, seed=4, size=(64, 64), seconds=1.25, fps=16
    )
    name = f"stepped-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    yield fiftyone().load_dataset(name)
    fiftyone().delete_dataset(name)
    clear(encodings_folder())


@pytest.mark.slow
def test_a_pipeline_in_bfloat16_is_stepped_in_float32_from_what_the_run_encoded(dataset, pipeline_folder, monkeypatch):
    model = {"model": str(pipeline_folder("wan")), "precision": "bfloat16", "dimension": 128}
    motive_fo.compute_gradients(dataset, clip=CLIP, flow={"estimator": "dis"}, attribution=model)
    motive_fo.score_influence(dataset)
    before = contents(encodings_folder()).entries
    encoded, stepped = [], set()
    monkeypatch.setattr(DiffusersModel, "encode_frames", lambda *each: encoded.append(each))
    falls = tail_patch.TailPatch.falls

    def watched(self, example):
        stepped.update(parameter.dtype for parameter in self._model.network.parameters())
        return falls(self, example)

    monkeypatch.setattr(tail_patch.TailPatch, "falls", watched)
    for precision, rounds in (("float32", False), ("run", True)):
        found = motive_fo.evaluate_attribution(dataset, config={**FEW, "precision": precision, "step": 0.02})
        assert found.training.clips == 8
        assert found.training.failed == {}
        assert (torch.bfloat16 in stepped) == rounds
        stepped.clear()
    assert not encoded
    assert contents(encodings_folder()).entries == before


@pytest.mark.slow
def test_encodings_that_were_thrown_away_are_made_again_and_offload_is_refused(dataset, pipeline_folder):
    """For queries and clips in one go, and nothing is kept that was not."""
    run, model = "scratch", {"model": str(pipeline_folder("wan")), "keep_encodings": False, "dimension": 128}
    motive_fo.compute_gradients(dataset, run, clip=CLIP, flow={"estimator": "dis"}, attribution=model)
    motive_fo.score_influence(dataset, run)
    clear(encodings_folder())
    assert motive_fo.evaluate_attribution(dataset, run, config=FEW).training.clips == 8
    assert contents(encodings_folder()).entries["latents"] == 0
    record = load_run(dataset, run)
    record.settings["attribution"]["offload"] = "on"
    save_run(dataset, record)
    with pytest.raises(ConfigError, match="leave them out with --clips 0"):
        motive_fo.evaluate_attribution(dataset, run, config={**FEW, "step": 2e-3})


@pytest.mark.slow
def test_a_trial_of_a_pipeline_trains_what_was_asked_for_from_what_the_run_encoded(
    dataset, pipeline_folder, monkeypatch
):
    pytest.importorskip("peft")
    monkeypatch.setattr("motive_fo.dataset.attribution_quality._FEWEST_CLIPS", 3)  # the others are queries now
    run, model = "tried", {"model": str(pipeline_folder("wan")), "dimension": 128}
    motive_fo.mark_queries(dataset.match_tags("train").limit(5))  # eight queries
    motive_fo.compute_gradients(dataset, run, clip=CLIP, flow={"estimator": "dis"}, attribution=model)
    motive_fo.score_influence(dataset, run)
    weights = {path: path.read_bytes() for path in pipeline_folder("wan").rglob("*.safetensors")}
    config = {"trial": True, "trial_steps": 1, "batch": 1, "repeats": 3, "learning_rate": 1e-2}
    whole = motive_fo.evaluate_attribution(dataset, run, config=config)
    lora = motive_fo.evaluate_attribution(dataset, run, config={**config, "lora": 4})
    assert whole.trial.queries == lora.trial.queries == 8
    assert whole.trial.falls != lora.trial.falls
    assert {path: path.read_bytes() for path in weights} == weights
