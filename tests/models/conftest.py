"""Tiny video pipelines, each made once for all tests that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.models import pipelines

_KINDS: dict[str, Callable[[Path], Path]] = {
    **pipelines.MAKERS,
    "wan-experts": partial(pipelines.wan, experts=True),
    "wan-per-token": partial(pipelines.wan, per_token=True),
    "cogvideox-pairs": partial(pipelines.cogvideox, pairs=True),
}


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a kind of pipeline; tests must leave it as it is."""
    for package in ("diffusers", "transformers", "accelerate", "tokenizers"):
        pytest.importorskip(package)
    root = tmp_path_factory.mktemp("pipelines")

    def folder(kind: str) -> Path:
        place = root / kind
        return place if place.is_dir() else _KINDS[kind](place)

    return folder


@pytest.fixture
def own_pipeline(pipeline_folder, tmp_path) -> Callable[[str], Path]:
    """A copy that a test may change."""
    import shutil

    return lambda kind: Path(shutil.copytree(pipeline_folder(kind), tmp_path / kind))
