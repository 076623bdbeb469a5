"""A small corpus on disk, and settings that fit it."""

from __future__ import annotations

import pytest

from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig
from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline.gradients import GradientSettings
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import ClipRecord
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, train=6, queries=2, static=1, damaged=5, seed=4, size=(64, 64), seconds=1.25, fps=16)


@pytest.fixture(scope="session")
def records(corpus):
    return {
        "train": [ClipRecord(f"train/{p.name}", p, f"caption of {p.stem}") for p in corpus.train],
        "query": [ClipRecord(f"queries/{p.name}", p, f"caption of {p.stem}") for p in corpus.queries],
    }


@pytest.fixture(scope="session")
def motion_settings():
    return MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), CARD)


@pytest.fixture(scope="session")
def settings(motion_settings):
    return GradientSettings.build(motion_settings, AttributionConfig(timesteps=(750.748,)), TinyModel.random(1))
