"""A small corpus, imported into datasets of the test database."""

from __future__ import annotations

import uuid

import pytest

import motive_fo
from motive_fo.synthetic.corpus import write_corpus

ONE_TIMESTEP = {"timesteps": (750.748,)}
"""A third of the default's gradients, where a test is about something else."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return write_corpus(folder, train=12, queries=2, static=1, damaged=2, seed=8, size=(64, 64), seconds=1.25, fps=16)


@pytest.fixture
def name():
    return f"clips-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def dataset(database, corpus, name):
    """A dataset with training clips and queries, nothing computed."""
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    from motive_fo.dataset.connect import fiftyone

    yield fiftyone().load_dataset(name)
    if fiftyone().dataset_exists(name):
        fiftyone().delete_dataset(name)


@pytest.fixture(scope="session")
def computed(database, corpus):
    """One dataset on which the whole way was gone once; tests must leave it as it is."""
    from motive_fo.dataset.connect import fiftyone

    name = f"computed-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name, attribution=ONE_TIMESTEP)
    motive_fo.score_influence(name)
    motive_fo.curate(name, selection={"budget": 0.25})
    return fiftyone().load_dataset(name)
