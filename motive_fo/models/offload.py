"""A network whose blocks wait in main memory and come to the device one by one, for weights that do not fit.

A video transformer is a stack of equal blocks that hold nearly all of its weights. Each block is brought to the device
before it computes, in the forward pass and again when checkpointing computes it again in the backward pass, and the one
used longest ago leaves. A weight is never changed, so leaving costs nothing: what waits in main memory is still right.
All else of the network (embedders, the last layer) stays on the device. No number changes.

``Choice:`` plain copies from ordinary memory. Memory that a GPU reads faster is handed out in powers of two, which
would cost a 14-billion network most of its size again.

``Choice:`` our own hooks. Those of diffusers (``apply_group_offloading``, 0.42) send a block back after its forward
pass; checkpointing stops its second forward pass early, where no such hook is called, and after a backward pass all
blocks are on the device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import torch

from motive_fo.errors import ConfigError, MotiveError

RESIDENT: Final = 2
"""Blocks on the device at once: while one still computes gradients, the next one is computed again."""


class BlockOffload:
    """Takes over where a network's weights are. The network must compute its blocks again in the backward pass.

    The network must not be moved or changed by anybody else.

    Args:
        network: in main memory.
        device: where it computes.
        resident: blocks on the device at once.

    Raises:
        ConfigError: the network has no list of blocks.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device, resident: int = RESIDENT) -> None:
        self.network = network
        self.device = device
        self.blocks = blocks_of(network)
        if len(self.blocks) <= resident:
            raise ConfigError(f"{type(network).__name__} has {len(self.blocks)} blocks to offload: set offload to off")
        #: how often a block was brought
        self.moves = 0
        self._limit = resident
        self._resident: OrderedDict[int, None] = OrderedDict()
        self._called: set[int] = set()
        self._forward = False
        self._here = False
        self._waiting = _own_parameters(self.blocks, network)
        waiting = {id(parameter) for weights in self._waiting for parameter, _ in weights}
        self._staying = [parameter for parameter in network.parameters() if id(parameter) not in waiting]
        network.register_forward_pre_hook(self._begins)
        network.register_forward_hook(self._ends)
        for number, block in enumerate(self.blocks):
            block.register_forward_pre_hook(partial(self._needed, number))

    @property
    def resident(self) -> list[int]:
        """Numbers of the blocks on the device, the one used last at the end."""
        return list(self._resident)

    def come(self) -> None:
        """Bring what stays on the device; blocks come when they are needed."""
        if not self._here:
            self._move_staying(self.device)
            self._here = True

    def leave(self) -> None:
        """Let everything wait in main memory."""
        self._evict(list(self._resident))
        self._move_staying(torch.device("cpu"))
        self._here = False

    def _begins(self, network: torch.nn.Module, inputs: Any) -> None:
        self._called.clear()
        self._forward = True

    def _ends(self, network: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._forward = False

    def _needed(self, number: int, block: torch.nn.Module, inputs: Any) -> None:
        again = self._forward and number in self._called
        self._called.add(number)
        if number in self._resident:
            self._resident.move_to_end(number)
            return
        if again:  # autograd would know the same weight by two places of its own, each with a part of its gradient
            raise MotiveError("the network uses a block twice in one pass, which cannot be offloaded: --offload off")
        while len(self._resident) >= self._limit:
            self._evict([next(iter(self._resident))])
        for parameter, data in self._waiting[number]:
            parameter.data = data.to(self.device, copy=True)
        self._resident[number] = None
        self.moves += 1

    def _evict(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            for parameter, data in self._waiting[number]:
                parameter.data = data
            self._resident.pop(number, None)

    def _move_staying(self, device: torch.device) -> None:
        for parameter in self._staying:
            parameter.data = parameter.data.to(device)
        for module in self.network.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = buffer.to(device)


def blocks_of(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of a network, in order: the elements of the lists of modules among its own children."""
    return [block for child in network.children() if isinstance(child, torch.nn.ModuleList) for block in child]


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU, None for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _own_parameters(
    blocks: list[torch.nn.Module], network: torch.nn.Module
) -> list[list[tuple[torch.nn.Parameter, torch.Tensor]]]:
    """For each block its parameters that nobody else has, with their values. Tied ones stay on the device."""
    owners: dict[int, int] = {}
    for block in blocks:
        for parameter in {id(p): p for p in block.parameters()}.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    inside = {id(module) for block in blocks for module in block.modules()}
    outside = {id(p) for m in network.modules() if id(m) not in inside for p in m.parameters(recurse=False)}
    return [
        [(p, p.data) for p in block.parameters() if owners[id(p)] == 1 and id(p) not in outside] for block in blocks
    ]
