"""Our output against the authors' own, with weights made by a formula. Skipped where the recorded output is not."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.alltracker_dense import dense_alltracker
from motive_fo.flow.alltracker import build_network

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "reference" / "alltracker"
CASES = [("short", "sliding"), ("exact", "sliding"), ("long", "sliding"), ("long", "whole"), ("pair", "sliding")]

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the recorded output of the original is not here")


def _formula_state(variant):
    spec = importlib.util.spec_from_file_location("alltracker_formula", FIXTURES / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.formula_state_dict(variant)


@pytest.fixture(scope="module", params=["full", "tiny"])
def recorded(request):
    with np.load(FIXTURES / f"parity_{request.param}.npz") as file:
        return request.param, _formula_state(request.param), dict(file)


def _check(found, recorded, case, mode):
    for output, name, largest in zip(found, ("flow", "visconf"), (1e-3, 1e-4), strict=True):
        expected = torch.from_numpy(recorded[f"{case}/{mode}/{name}_every3"])
        difference = (output[..., ::3, ::3] - expected).abs()
        assert difference.shape == expected.shape
        assert difference.max() < largest
        if name == "flow":
            assert difference.mean() < 5e-5


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_the_network_gives_the_recorded_output(recorded, case, mode):
    variant, state, arrays = recorded
    network = build_network(variant)
    network.load_state_dict(state | {"time_emb": network.time_emb}, strict=True)
    frames = torch.from_numpy(arrays[f"{case}/video"]).permute(0, 3, 1, 2)[None].float()
    _check(network(frames, iterations=4, mode=mode), arrays, case, mode)


@pytest.mark.parametrize(("case", "mode"), [("short", "sliding"), ("long", "whole"), ("pair", "sliding")])
def test_the_oracle_gives_the_recorded_output(recorded, case, mode):
    _, state, arrays = recorded
    frames = torch.from_numpy(arrays[f"{case}/video"]).permute(0, 3, 1, 2)[None].float()
    _check(dense_alltracker(state, frames, 4, mode), arrays, case, mode)


def test_the_state_dict_has_the_official_names_and_shapes(recorded):
    variant = recorded[0]
    lines = (FIXTURES / f"state_{variant}.txt").read_text().splitlines()
    official = dict(line.split("\t")[:2] for line in lines if not line.startswith("#"))
    ours = {name: str(tuple(tensor.shape)) for name, tensor in build_network(variant).state_dict().items()}
    assert ours == official
