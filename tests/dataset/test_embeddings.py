"""The map and the similarity index of FiftyOne Brain say what the stored sketches say, and go with the run."""

import uuid

import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.embeddings import read_sketches
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import InputError, MissingDependencyError, StoreError
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture(scope="module")
def dataset(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    corpus = write_corpus(folder, train=6, queries=2, static=1, damaged=1, seed=6, size=(64, 64), seconds=1.25, fps=16)
    name = f"map-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name, attribution={"timesteps": (750.748, 300.0), "dimension": 128})
    import fiftyone as fo

    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def test_vectors_have_the_mean_cosine_of_the_scoring_as_their_product(dataset):
    motive_fo.score_influence(dataset)
    store = RunStore(load_run(dataset, "motive").store)
    found = read_sketches(store, dataset.values("motive_id"))
    assert len(found) == 8
    scores_QN, queries, train = store.read_scores("motion")
    for q, query in enumerate(queries):
        for n, clip in enumerate(train):
            if np.isfinite(scores_QN[q, n]):
                assert found[query] @ found[clip] == pytest.approx(scores_QN[q, n], abs=1e-5)


def test_the_map_and_sorting_by_similarity(dataset, capfd):
    report = motive_fo.map_sketches(dataset)
    assert capfd.readouterr().out == "", "a command prints JSON there"
    assert (report.clips, report.left_out) == (8, 2)
    dataset.reload()
    assert load_run(dataset, "motive").brain_keys == ["motive_map", "motive_similarity"]
    results = dataset.load_brain_results("motive_map")
    assert results.points.shape == (8, 2)
    first = dataset.match_tags("query").first()
    wanted = list(motive_fo.similar_gradients(dataset, first.motive_id))
    order = dataset.sort_by_similarity(first.id, brain_key="motive_similarity").values("motive_id")
    assert order[0] == first.motive_id
    assert order[1:] == wanted
    again = motive_fo.map_sketches(dataset, score="whole")
    assert again.clips == 9, "a still clip has a gradient without the mask"


def test_refusals(dataset):
    with pytest.raises(InputError, match="no way to make a map"):
        motive_fo.map_sketches(dataset, method="tsne")
    with pytest.raises(InputError, match="a map needs 3"):
        motive_fo.map_sketches(dataset.limit(1))
    with pytest.raises(InputError, match="no gradient sketch"):
        motive_fo.similar_gradients(dataset, "nobody")
    motive_fo.compute_motion(dataset.limit(1), "onlymotion")
    with pytest.raises(StoreError, match="no gradients yet"):
        motive_fo.map_sketches(dataset, "onlymotion")
    motive_fo.delete_run(dataset, "onlymotion")


def test_umap_is_asked_for_by_name_where_it_is_missing(dataset, monkeypatch):
    monkeypatch.setattr("motive_fo.dataset.embeddings.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install umap-learn"):
        motive_fo.map_sketches(dataset, method="umap")


def test_deleting_the_run_deletes_them(dataset):
    motive_fo.compute_gradients(dataset, "gone", attribution={"dimension": 128})
    motive_fo.map_sketches(dataset, "gone")
    assert dataset.has_brain_run("gone_map")
    motive_fo.delete_run(dataset, "gone")
    dataset.reload()
    assert not [key for key in dataset.list_brain_runs() if key.startswith("gone")]
