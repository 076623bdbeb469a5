"""Runs of one dataset as checkpoints of one model: Python, command line and form."""

import uuid

import numpy as np
import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main
from motive_fo_plugin.forms import Form
from motive_fo_plugin.operators.compute import ScoreInfluence

import motive_fo
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import ConfigError, InputError
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus

LATE = "tests.influence.late_adapter:Late"
FLOW = {"estimator": "dis"}


@pytest.fixture(scope="module")
def dataset(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    corpus = write_corpus(folder, train=4, queries=1, static=0, damaged=0, seed=3, size=(64, 64), seconds=1.25, fps=16)
    name = f"checkpoints-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    made = fiftyone().load_dataset(name)
    for run, model in (("early", "tiny"), ("late", LATE)):
        motive_fo.compute_gradients(made, run, flow=FLOW, attribution={"model": model})
        motive_fo.score_influence(made, run)
    yield made
    fiftyone().delete_dataset(name)


def _scores(dataset, run):
    return RunStore(load_run(dataset, run).store).read_scores("motion")[0]


def test_runs_are_weighed_together_and_the_run_keeps_its_checkpoints(dataset):
    early, late = _scores(dataset, "early"), _scores(dataset, "late")
    asked = ["influence", dataset.name, "--run", "early", "--checkpoints", "late=0.5"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(_scores(dataset, "early"), (early + 0.5 * late) / 1.5, atol=1e-6)
    assert np.array_equal(_scores(dataset, "late"), late)
    assert load_run(dataset, "early").section("influence").checkpoints == ("late=0.5",)
    motive_fo.score_influence(dataset, "early", influence={"checkpoints": ()})
    assert np.array_equal(_scores(dataset, "early"), early)


def test_wrong_checkpoints_are_refused_and_change_nothing(dataset):
    before = _scores(dataset, "early")
    for checkpoints, error, words in (
        (("early=1",), ConfigError, "very weights"),
        (("never=1",), InputError, "never"),
        (("late",), ConfigError, "RUN=WEIGHT"),
    ):
        with pytest.raises(error, match=words):
            motive_fo.score_influence(dataset, "early", influence={"checkpoints": checkpoints})
    assert np.array_equal(_scores(dataset, "early"), before)
    assert load_run(dataset, "early").section("influence").checkpoints == ()


def test_the_form_has_the_options():
    form = Form({})
    form.settings(ScoreInfluence.sections[0], advanced=True)
    shown = form.inputs.to_json()["properties"]
    assert shown["overlap"]["default"] == "keep"
    assert "checkpoints" in shown
