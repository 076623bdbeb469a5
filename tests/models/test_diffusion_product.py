"""Video pipelines go the whole way: a folder of clips, a pipeline's folder, and at the end what a trainer reads."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.run_record import encodings_folder, load_run
from motive_fo.models.registry import model_card
from motive_fo.pipeline.queries import generate_queries
from motive_fo.store.encodings import clear, contents
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus
from tests.models.pipelines import CLIP


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("product")
    return write_corpus(folder, train=5, queries=1, static=1, damaged=1, seed=4, size=(64, 64), seconds=1.25, fps=16)


@pytest.fixture
def dataset(database, corpus):
    from motive_fo.dataset.connect import fiftyone

    name = f"diffusion-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    yield fiftyone().load_dataset(name)
    fiftyone().delete_dataset(name)
    clear(encodings_folder())


# one run of the whole way for each family; the three others take as long again
@pytest.mark.parametrize(
    "kind", ["wan", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ltx", "cogvideox", "hunyuanvideo"))]
)
def test_from_clips_to_an_export(dataset, pipeline_folder, kind, tmp_path):
    model = str(pipeline_folder(kind))
    motive_fo.compute_motion(dataset, clip=CLIP, model=model)
    reports = motive_fo.compute_gradients(dataset)  # the run remembers its model
    assert reports["train"].status == {"done": 5, "static": 1, "failed": 1}
    record = load_run(dataset, "motive")
    store = RunStore(record.store)
    grid = model_card(model).grid(record.section("clip").resolve(model_card(model)))
    assert store.table("motion").read("mask", store.table("motion").ids[:1]).shape[1:] == grid
    assert store.sketches("train").tables[store.sketches("train").samples[0]].identity["model"]["name"] == kind
    assert len(store.read_parameters()) > 20
    motive_fo.score_influence(dataset)
    scored = [value for value in dataset.match_tags("train").values("motive.influence") if value is not None]
    assert len(scored) == 5
    motive_fo.curate(dataset, selection={"budget": 0.4})
    report = motive_fo.export(dataset, tmp_path / "out")
    assert report.written == 2
    assert len(list((tmp_path / "out").rglob("*.mp4"))) == 2
    # everything was encoded once, and stays for the next run
    assert contents(encodings_folder()).entries["latents"] == 7
    again = motive_fo.compute_gradients(dataset, "second", clip=CLIP, attribution={"model": model, "noises": (0, 1)})
    assert contents(encodings_folder()).entries["latents"] == 7
    assert "flow" not in again["train"].seconds
    one, two = (RunStore(load_run(dataset, run).store).sketches("train") for run in ("motive", "second"))
    ids = [i for i in one.ids if one.status(i).name != "FAILED"]
    assert np.array_equal(one.read("sketch", ids)[:, 0], two.read("sketch", ids)[:, 0], equal_nan=True)


def test_a_dry_run_keeps_nothing(dataset, pipeline_folder):
    made = motive_fo.estimate(dataset, clip=CLIP, attribution={"model": str(pipeline_folder("wan"))})
    assert made.roles["train"].todo == 7
    assert made.measured
    assert contents(encodings_folder()).entries["latents"] == 0


def test_queries_are_made_by_the_pipeline(pipeline_folder, tmp_path, monkeypatch):
    from dataclasses import replace

    from motive_fo.clips.spec import ClipSpec
    from motive_fo.models.diffusion.wan import WanModel

    (tmp_path / "spin").mkdir()
    (tmp_path / "spin" / "1.txt").write_text("a disc spins slowly")
    whole = WanModel.card_of
    small = ClipSpec(0, 8, 5, 32, 32)  # its default clip takes minutes on a CPU
    monkeypatch.setattr(
        WanModel, "card_of", classmethod(lambda cls, folder: replace(whole(folder), default_clip=small))
    )
    (made,) = generate_queries(tmp_path, str(pipeline_folder("wan")), device="cpu")
    assert made == tmp_path / "spin" / "1.mp4"
    assert made.stat().st_size > 0
