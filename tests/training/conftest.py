"""Clips to train on."""

from __future__ import annotations

import pytest

from motive_fo.synthetic.corpus import write_corpus
from tests.models.conftest import pipeline_folder  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder of four clips that move and one that is damaged, with captions."""
    folder = tmp_path_factory.mktemp("training-clips")
    write_corpus(folder, train=4, queries=0, damaged=1, seed=5, size=(64, 64), seconds=1.25, fps=16)
    return folder / "train"
