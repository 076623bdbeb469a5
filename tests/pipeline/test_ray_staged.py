"""Large models on Ray: workers encode and let their encoders go, encodings are kept where the run is."""

import dataclasses
from importlib.util import find_spec

import pytest

from motive_fo.config import EngineConfig
from motive_fo.pipeline.crew import open_crew
from motive_fo.store.encodings import contents
from tests.models import test_diffusion_encodings as here
from tests.models.conftest import pipeline_folder
from tests.models.test_diffusion_encodings import folder, records, whole

__all__ = ["folder", "pipeline_folder", "records", "whole"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")]


def test_encodings_made_by_workers_are_those_of_one_process(whole, folder, records, tmp_path):
    """Once from frames, once from what was kept: the sketches of one process, the same encodings on disk."""
    _, numbers, place = whole
    settings = here.settings_of(folder)
    kept = tmp_path / "encodings.zarr"
    engine = EngineConfig(engine="ray", address="local", workers=2)
    with open_crew(engine, settings.motion, settings.attribution) as crew:
        settings = dataclasses.replace(settings, model=crew.model)
        report, made = here.run(tmp_path / "r.zarr", records, settings, kept, crew=crew)
        assert report.seconds["encode"] > 0
        again, found = here.run(tmp_path / "again.zarr", records, settings, kept, crew=crew)
        assert again.seconds["read encodings"] > 0
    assert here.same(numbers, made)
    assert here.same(numbers, found)
    assert contents(kept).entries == contents(place / "encodings.zarr").entries
    assert contents(kept).bytes == contents(place / "encodings.zarr").bytes
