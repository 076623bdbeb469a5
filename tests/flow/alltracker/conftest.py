"""Weights that reach every branch of the network (``lively_state``), and frames with something to match."""

import pytest
import torch

from benchmarks.alltracker import formula_state as lively_state
from motive_fo.flow.alltracker import build_network


def textured_frames(length, height, width, seed=0, batch=1):
    """A texture that drifts by 3 and 1 pixels a frame, and noise: (B, T, 3, H, W) in [0, 255]."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = height + length + 8, width + 3 * length + 8
    coarse = torch.rand(batch, 3, rows // 6 + 2, columns // 6 + 2, generator=generator)
    texture = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear") * 255
    frames = [texture[..., t : t + height, 3 * t : 3 * t + width] for t in range(length)]
    frames = torch.stack(frames, 1)
    return (frames + 8 * torch.randn(frames.shape, generator=generator)).clamp(0, 255)


@pytest.fixture(scope="session")
def networks():
    built = {}
    for variant in ("full", "tiny"):
        built[variant] = build_network(variant)
        built[variant].load_state_dict(lively_state(variant))
    return built
