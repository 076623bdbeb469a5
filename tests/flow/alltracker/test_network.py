"""The network against an oracle written another way, and against what must not change its answer."""

import subprocess
import sys

import pytest
import torch

from benchmarks.alltracker_dense import dense_alltracker
from motive_fo.flow.alltracker import build_network
from motive_fo.flow.alltracker.network import Padding, window_starts
from tests.flow.alltracker.conftest import lively_state, textured_frames

VARIANTS = ["full", "tiny"]


def _agree(found, expected):
    """The tolerance of parity with the authors' own output."""
    flow, visconf = ((a - b).abs() for a, b in zip(found, expected, strict=True))
    assert flow.max() < 1e-3
    assert flow.mean() < 5e-5
    assert visconf.max() < 1e-4


@pytest.mark.parametrize(
    ("variant", "length", "height", "width", "mode"),
    [
        ("full", 2, 37, 51, "sliding"),  # a pair, smaller than the least the network takes
        pytest.param("full", 17, 100, 128, "sliding", marks=pytest.mark.slow),
        pytest.param("tiny", 2, 200, 330, "whole", marks=pytest.mark.slow),
        ("tiny", 3, 130, 66, "sliding"),
        pytest.param("tiny", 16, 24, 200, "sliding", marks=pytest.mark.slow),
        pytest.param("tiny", 17, 128, 128, "whole", marks=pytest.mark.slow),
        pytest.param("tiny", 24, 64, 72, "whole", marks=pytest.mark.slow),
        ("tiny", 33, 90, 70, "sliding"),
    ],
)
def test_the_network_gives_what_dense_matching_gives(networks, variant, length, height, width, mode):
    frames = textured_frames(length, height, width, seed=length)
    found = networks[variant](frames, iterations=2, mode=mode)
    shape = (1, 2, height, width) if length == 2 else (1, length, 2, height, width)
    assert found[0].shape == found[1].shape == shape
    assert found[0].std() > 1  # an answer that is the same everywhere would agree with anything
    _agree(found, dense_alltracker(lively_state(variant), frames, 2, mode))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_network_gives_what_dense_matching_gives_with_other_weights(seed):
    network = build_network("tiny")
    network.load_state_dict(lively_state("tiny", seed))
    frames = textured_frames(5, 140, 210, seed)
    _agree(network(frames), dense_alltracker(lively_state("tiny", seed), frames))


@pytest.mark.parametrize(
    ("variant", "way", "memory"),
    [pytest.param("full", *each, marks=pytest.mark.slow) for each in (("tiles", 2**22), ("chunks", 2**30))]
    + [("tiny", way, memory) for way in ("volume", "chunks", "tiles") for memory in (2**18, 2**30)],
)
def test_neither_way_nor_memory_changes_the_answer(networks, variant, way, memory):
    network = networks[variant]
    frames = textured_frames(2, 192, 320, batch=3)
    expected = network(frames, iterations=2)
    network.way, network.memory = way, memory
    try:
        _agree(network(frames, iterations=2), expected)
    finally:
        network.way = network.memory = None


@pytest.mark.parametrize("length", [2, pytest.param(18, marks=pytest.mark.slow)])
def test_a_clip_is_the_same_alone_and_in_a_batch(networks, length):
    frames = torch.cat([textured_frames(length, 100, 80, seed) for seed in range(3)])
    together = networks["tiny"](frames, iterations=2)
    for i in range(3):
        _agree(networks["tiny"](frames[i : i + 1], iterations=2), [x[i : i + 1] for x in together])


def test_modes_differ_only_where_windows_overlap(networks):
    frames = textured_frames(24, 64, 64)
    sliding, whole = (networks["tiny"](frames, iterations=2, mode=mode)[0] for mode in ("sliding", "whole"))
    assert torch.equal(sliding[:, :8], whole[:, :8])
    assert torch.equal(sliding[:, 16:], whole[:, 16:])
    assert (sliding[:, 8:16] - whole[:, 8:16]).abs().max() > 0.01


def test_a_short_clip_is_one_that_rests_on_its_last_frame(networks):
    frames = textured_frames(5, 64, 64)
    extended = torch.cat((frames, frames[:, -1:].expand(-1, 11, -1, -1, -1)), 1)
    _agree(networks["tiny"](frames), [x[:, :5] for x in networks["tiny"](extended)])


def test_frames_may_be_bytes_and_are_left_alone(networks):
    frames = textured_frames(3, 70, 90).round()
    kept = frames.clone()
    _agree(networks["tiny"](frames.byte()), networks["tiny"](frames))
    assert torch.equal(frames, kept)


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_stays_near_float32(networks, variant):
    frames = textured_frames(4, 128, 160)
    flow, visconf = networks[variant](frames, iterations=2)
    with torch.autocast("cpu", torch.bfloat16):
        rough_flow, rough_visconf = networks[variant](frames, iterations=2)
    assert rough_flow.dtype == rough_visconf.dtype == torch.float32
    assert (rough_flow - flow).abs().mean() < 0.1 * flow.std()
    assert (rough_visconf - visconf).abs().mean() < 0.05


def test_no_gradient_is_recorded(networks):
    assert not any(x.requires_grad for x in networks["tiny"](textured_frames(2, 64, 64), iterations=1))


@pytest.mark.parametrize(
    ("length", "starts"),
    [(3, [0]), (16, [0]), (17, [0, 8]), (24, [0, 8]), (25, [0, 8, 16]), (81, list(range(0, 73, 8)))],
)
def test_windows_start_every_eight_frames_and_reach_the_end(length, starts):
    assert window_starts(length) == starts


@pytest.mark.parametrize(
    ("size", "cells", "top_left"),
    [((480, 832), (64, 104), (16, 0)), ((130, 150), (24, 24), (31, 21)), ((1, 1), (16, 16), (63, 63))],
)
def test_padding_is_even_and_at_least_128(size, cells, top_left):
    padding = Padding(*size)
    assert padding.cells == cells
    assert (padding.top, padding.left) == top_left
    frame = torch.rand(1, 3, *size) * 255
    prepared = padding.prepare(frame, torch.float32)
    assert prepared.shape[-2:] == (8 * cells[0], 8 * cells[1])
    assert padding.crop(prepared).shape[-2:] == size
    assert torch.equal(prepared[..., 0, 0], padding.crop(prepared)[..., 0, 0])  # the border goes on


@pytest.mark.parametrize(
    ("shape", "says"),
    [((1, 1, 3, 64, 64), "one frame"), ((3, 3, 64, 64), "frames are"), ((1, 3, 4, 64, 64), "frames are")],
)
def test_frames_of_another_shape_are_refused(networks, shape, says):
    with pytest.raises(ValueError, match=says):
        networks["tiny"](torch.zeros(shape))


def test_unknown_names_are_refused(networks):
    with pytest.raises(ValueError, match="use full or tiny"):
        build_network("huge")
    with pytest.raises(ValueError, match="use sliding or whole"):
        networks["tiny"](torch.zeros(1, 3, 3, 64, 64), mode="all")
    with pytest.raises(ValueError, match="1 or more"):
        networks["tiny"](torch.zeros(1, 3, 3, 64, 64), iterations=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("way", ["volume", "chunks", "tiles"])
def test_a_gpu_gives_the_same(networks, variant, way):
    frames = textured_frames(18, 100, 140)
    expected = networks[variant](frames, iterations=2)
    network = build_network(variant)
    network.load_state_dict(lively_state(variant))
    network.cuda().way = way
    found = network(frames.cuda(), iterations=2)
    assert (found[0].cpu() - expected[0]).abs().max() < 0.05  # matrix products of less than float32 there


def test_importing_the_package_loads_no_torch():
    code = "import sys, motive_fo.flow.alltracker, motive_fo.flow.alltracker.weights; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
