"""Blocks that wait in main memory: few of them on the device at once, no number changed.

Here the device is the CPU, too: a block that has come is a copy of the one that waits.
"""

import numpy as np
import pytest
import torch

from motive_fo.attribution.gradients import clip_sketch, streaming
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import SRHTProjection
from motive_fo.clips.spec import ClipSpec
from motive_fo.errors import ConfigError, MotiveError
from motive_fo.models import offload
from motive_fo.models.diffusion.model import DiffusersModel
from motive_fo.models.offload import BlockOffload, blocks_of
from motive_fo.models.registry import load_model
from motive_fo.pipeline.probe import probed

CPU = torch.device("cpu")


class Net(torch.nn.Module):
    """A stack of checkpointed blocks as those of diffusers are."""

    def __init__(self, count=6, order=None):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Linear(4, 8), torch.nn.Linear(8, 4)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.SiLU(), torch.nn.Linear(8, 8)) for _ in range(count)
        )
        self.order = range(count) if order is None else order

    def forward(self, x):
        x = self.first(x)
        for number in self.order:
            block = self.blocks[number]
            x = x + torch.utils.checkpoint.checkpoint(block.__call__, x, use_reentrant=False)
        return self.last(x)


def _sketches(network, *, backwards=2):
    """Sketches of some losses of one forward pass, as a clip with and without its mask."""
    x = torch.linspace(-1, 1, 12).reshape(3, 4)
    made = []
    with streaming(network, SRHTProjection(128, 128), None, CPU) as backward:
        y = network(x)
        for n in range(backwards):
            made.append(backward.run((y * (n + 1)).square().mean(), keep_graph=n < backwards - 1).sketch_D)
    return np.stack(made)


@pytest.mark.parametrize("resident", [1, 2, 3])
def test_few_blocks_are_there_at_once_and_no_bit_changes(resident):
    expected = _sketches(Net())
    network = Net()
    blocks = BlockOffload(network, CPU, resident)
    waiting = [parameter.data_ptr() for block in network.blocks for parameter in block.parameters()]
    most = []

    def count(*_):
        here = {
            n
            for n, block in enumerate(network.blocks)
            if any(parameter.data_ptr() not in waiting for parameter in block.parameters())
        }
        assert here == set(blocks.resident)
        most.append(len(here))

    for block in network.blocks:
        block.register_forward_pre_hook(count)
    blocks.come()
    made = _sketches(network)
    assert np.array_equal(made, expected)
    assert max(most) == resident
    # forward, and once for each backward pass; those of the end are still there when the first one begins
    assert blocks.moves == 3 * len(network.blocks) - resident
    blocks.leave()
    assert blocks.resident == []
    assert [p.data_ptr() for block in network.blocks for p in block.parameters()] == waiting
    assert np.array_equal(_sketches(network), expected), "and it comes back"


def test_tied_weights_stay_and_their_gradient_is_whole():
    def tied():
        network = Net()
        network.blocks[4][0].weight = network.blocks[1][0].weight
        network.blocks[2][2].bias = network.first.bias
        return network

    expected, network = _sketches(tied()), tied()
    shared = [network.blocks[1][0].weight, network.first.bias]
    places = [parameter.data_ptr() for parameter in shared]
    BlockOffload(network, CPU).come()
    assert np.array_equal(_sketches(network), expected)
    assert [parameter.data_ptr() for parameter in shared] == places


def test_a_block_used_again_after_it_left_is_refused():
    network = Net(order=[0, 1, 2, 3, 0, 4, 5])
    BlockOffload(network, CPU)
    with pytest.raises(MotiveError, match="--offload off"):
        network(torch.ones(1, 4))
    there = Net(order=[3, 0, 1, 2, 3, 4, 5])  # also one that is there from the pass before when its first use comes
    for block in BlockOffload(there, CPU).blocks[3:4]:
        block(torch.ones(1, 8))
    with pytest.raises(MotiveError, match="--offload off"):
        there(torch.ones(1, 4))
    again = Net(order=[0, 0, 1, 2, 3])
    expected = _sketches(Net(order=[0, 0, 1, 2, 3]))
    BlockOffload(again, CPU)
    assert np.array_equal(_sketches(again), expected), "one that has not left is not"


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ConfigError, match="blocks to offload"):
        BlockOffload(torch.nn.Linear(2, 2), CPU)


# --- models -----------------------------------------------------------------------------------------------------------


def _clip_sketches(model, spec):
    frames = np.random.default_rng(0).integers(0, 256, (spec.frames, spec.height, spec.width, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).random(model.card.grid(spec)).astype(np.float32)
    x0, condition = model.encode_frames(frames), model.encode_caption("a red ball rolls to the left")
    parameters = attributed_parameters(model.network)
    with streaming(model.network, SRHTProjection(128), parameters, model.device) as backward:
        return clip_sketch(model, backward, x0, condition, mask, 750.748, 0)


@pytest.mark.parametrize("kind", ["wan", "ltx", "cogvideox", "hunyuanvideo"])
def test_a_models_sketch_is_the_same_to_the_last_bit(pipeline_folder, kind, monkeypatch):
    loaded = DiffusersModel._loaded

    def aligned(self, *args):
        made = loaded(self, *args)
        if isinstance(made, torch.nn.Module):  # what is mapped from a file has odd addresses: a CPU rounds differently
            for parameter in made.parameters():
                parameter.data = parameter.data.clone()
        return made

    monkeypatch.setattr(DiffusersModel, "_loaded", aligned)
    monkeypatch.setattr(BlockOffload.__init__, "__defaults__", (1,))
    spec, folder = ClipSpec(start=0, fps=8, frames=9, height=64, width=64), str(pipeline_folder(kind))
    plain = load_model(folder, "cpu", checkpointing="on", spec=spec)
    moved = load_model(folder, "cpu", offload="on", spec=spec)
    with probed(plain) as found:
        one = _clip_sketches(plain, spec)
    other = _clip_sketches(moved, spec)
    width = plain.network.config.num_attention_heads * plain.network.config.attention_head_dim
    rows = len(blocks_of(plain.network)) + 92
    assert plain.needs(spec)[1] == found.tokens * width * 4 * rows, "as many tokens as its blocks are given"
    for name in ("sketch_2D", "norm_2", "loss_2", "squares_G2"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert moved._blocks.moves >= 2 * len(blocks_of(moved.network)) > len(moved._blocks.resident)
    assert moved.identity() == plain.identity()
    moved.make_room()
    assert moved._blocks.resident == []
    assert np.array_equal(_clip_sketches(moved, spec).sketch_2D, one.sketch_2D)


def test_auto_offloads_what_does_not_fit(pipeline_folder, monkeypatch):
    spec = ClipSpec(start=0, fps=8, frames=9, height=64, width=64)
    folder = str(pipeline_folder("wan"))
    weights, beside = load_model(folder, "cpu", spec=spec).needs(spec)
    assert weights == 4 * sum(p.numel() for p in load_model(folder, "cpu").outline().parameters())
    for free, expected in ((None, False), (weights + beside, False), (weights + beside - 1, True)):
        monkeypatch.setattr(offload, "free_memory", lambda device, free=free: free)
        monkeypatch.setattr(BlockOffload.__init__, "__defaults__", (1,))
        model = load_model(folder, "cpu", offload="auto", spec=spec)
        assert (model.network is not None, model._blocks is not None) == (True, expected)
    unchecked = load_model(folder, "cpu", offload="auto", checkpointing="off", spec=spec)
    assert (unchecked.network is not None, unchecked._blocks) == (True, None)


def test_wrong_use_names_the_way_out(pipeline_folder):
    with pytest.raises(ConfigError, match="leave checkpointing at auto"):
        load_model(str(pipeline_folder("wan")), "cpu", offload="on", checkpointing="off")
    for name in ("tiny", "tests.models.own_adapter:Own"):
        with pytest.raises(ConfigError, match="offload at auto"):
            load_model(name, "cpu", offload="on")
