"""The operator that checks scores: its form, what it refuses, and that it does what the function does."""

from __future__ import annotations

import uuid

import pytest

import motive_fo
from motive_fo.dataset.attribution_quality import STEP
from motive_fo.dataset.plugin import install_plugin
from motive_fo.dataset.run_record import load_run
from motive_fo.synthetic.corpus import write_corpus

from .test_operators import _form, _notice, _operator


@pytest.fixture(scope="module")
def judged(database, tmp_path_factory):
    install_plugin()
    folder = tmp_path_factory.mktemp("quality")
    corpus = write_corpus(folder, train=8, queries=3, seed=9, size=(64, 64), seconds=1.25, fps=16)
    name = f"quality-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name, attribution={"dimension": 128}, flow={"estimator": "dis"})
    motive_fo.score_influence(name)
    motive_fo.compute_motion(name, "plain", flow={"estimator": "dis"})
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    dataset.set_values("kind", [("even", "odd")[n % 2] for n in range(len(dataset))])
    yield dataset
    fo.delete_dataset(name)


@pytest.mark.parametrize(
    ("params", "field", "problem"),
    [
        ({"run": "plain"}, "run", "has no influence yet"),
        ({"by": "gone"}, "by", "there is no field 'gone'"),
        ({"clips": 0}, "by", "nothing is asked for"),
        ({"by": "kind", "queries": 2}, "queries", "greater than or equal to 3"),
        ({"by": "kind", "step": 1.5}, "step", "less than 1"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(judged, params, field, problem):
    _, wrong = _form("evaluate_attribution", judged, **params)
    assert problem in wrong.get(field, ""), wrong


def test_the_form_says_what_it_will_do(judged):
    properties, wrong = _form("evaluate_attribution", judged, by="kind")
    assert not wrong
    assert "a training step on each of 24 clips" in _notice(properties)
    assert "losses of 8 queries" in _notice(properties)
    choices = [choice["value"] for choice in properties["by"]["view"]["choices"]]
    assert choices == ["kind", "tags"]
    properties, wrong = _form("evaluate_attribution", judged, trial=True, clips=0)
    assert not wrong
    assert "8 times for 40 steps on" in _notice(properties)
    properties, wrong = _form("evaluate_attribution", judged, by="kind", clips=0)
    assert not wrong
    assert "from the store alone" in _notice(properties)


def test_it_does_what_the_function_does_and_shows_it(judged):
    said = _operator("evaluate_attribution")(judged, by="kind", clips=0)
    found = load_run(judged, "motive").steps[STEP]
    assert said == found["findings"][0].rstrip(".")
    again = motive_fo.evaluate_attribution(judged, by="kind", config={"clips": 0})
    assert again.findings == found["findings"]
    assert f"{STEP}: {again.retrieval.clips} clips" in str(_form("show_run", judged)[0])
