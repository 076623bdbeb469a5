"""AllTracker the plain way, as the oracle of tests and the opponent of benchmarks/alltracker.py.

One function over a state dict, written after the description of the network and sharing nothing with
``motive_fo.flow.alltracker``: every correlation volume is built in full for all frames of a window and read with
``grid_sample``, every window encodes its own frames, every iteration is upsampled. Needs torch alone.

Shapes: B clips, T frames, S frames of a window, C channels, H W pixels, h w cells of 8x8 pixels, N = h w.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

_WINDOW, _STEP, _LEVELS, _RADIUS = 16, 8, 5, 4

State = Mapping[str, Tensor]


@torch.inference_mode()
def dense_alltracker(
    state: State, frames_BTCHW: Tensor, iterations: int = 4, mode: str = "sliding"
) -> tuple[Tensor, Tensor]:
    """Flow and visibility/confidence of the frames, as ``motive_fo.flow.alltracker`` gives them.

    Args:
        state: official names; the buffer ``time_emb`` may be left out.
        frames_BTCHW: float RGB in [0, 255].
        iterations: refinements of each window.
        mode: ``sliding`` or ``whole``.
    """
    batch, length, _, height, width = frames_BTCHW.shape
    mean = torch.tensor([0.485, 0.456, 0.406], device=frames_BTCHW.device).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], device=frames_BTCHW.device).view(3, 1, 1)
    frames = (frames_BTCHW / 255 - mean) / deviation
    rows, columns = (max(128, -(-side // 64) * 64) - side for side in (height, width))
    left, top = columns // 2, rows // 2
    frames = functional.pad(frames.flatten(0, 1), (left, columns - left, top, rows - top), mode="replicate")
    frames = frames.unflatten(0, (batch, length))

    if length == 2:
        features = _encode(state, frames)
        flow, visconf, _, _ = _window(state, features[:, 0], features[:, 1:], None, None, iterations)
        outputs = [flow[:, 0], visconf[:, 0]]
    else:
        outputs = list(_clip(state, frames, iterations, mode))
    flow, visconf = (x[..., top : top + height, left : left + width] for x in outputs)
    return flow, visconf.sigmoid()


def _clip(state: State, frames: Tensor, iterations: int, mode: str) -> tuple[Tensor, Tensor]:
    length = frames.shape[1]
    starts = [0]
    while starts[-1] + _WINDOW < length:
        starts.append(starts[-1] + _STEP)
    extended = starts[-1] + _WINDOW
    frames = torch.cat((frames, frames[:, -1:].expand(-1, extended - length, -1, -1, -1)), 1)
    anchor = _encode(state, frames[:, :1])[:, 0]
    whole = _encode(state, frames) if mode == "whole" else None
    flow = visconf = cells = logits = None
    for start in starts:
        window = slice(start, start + _WINDOW)
        features = _encode(state, frames[:, window]) if whole is None else whole[:, window]
        if cells is not None:
            cells = torch.cat((cells[:, _STEP:], cells[:, -1:].expand(-1, _STEP, -1, -1, -1)), 1)
            logits = torch.cat((logits[:, _STEP:], logits[:, -1:].expand(-1, _STEP, -1, -1, -1)), 1)
        new_flow, new_visconf, cells, logits = _window(state, anchor, features, cells, logits, iterations)
        if flow is None:
            flow, visconf = new_flow, new_visconf
        elif mode == "sliding":
            flow = torch.cat((flow, new_flow[:, -_STEP:]), 1)
            visconf = torch.cat((visconf, new_visconf[:, -_STEP:]), 1)
        else:
            flow = torch.cat((flow[:, :start], new_flow), 1)
            visconf = torch.cat((visconf[:, :start], new_visconf), 1)
    return flow[:, :length], visconf[:, :length]


# --- one window -------------------------------------------------------------------------------------------------------


def _window(state, anchor_BChw, features_BSChw, cells, logits, iterations):
    """Full-resolution flow and logits, and both at 1/8."""
    batch, span, channels, h, w = features_BSChw.shape
    anchor = anchor_BChw[:, None].expand(-1, span, -1, -1, -1).flatten(0, 1)
    pyramid = _volumes(anchor, features_BSChw.flatten(0, 1))
    feature, context = (anchor, anchor) if channels == 128 else anchor.split(128, 1)
    time = _time_embedding(state, anchor)
    time_S = time if span == _WINDOW else time[1:2]
    context = context + time_S.repeat(batch, 1)[:, :, None, None]

    grid = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")[::-1]).to(anchor)
    cells = anchor.new_zeros(batch, span, 2, h, w) if cells is None else cells
    logits = anchor.new_zeros(batch, span, 2, h, w) if logits is None else logits
    flow, visconf = cells.flatten(0, 1), logits.flatten(0, 1)
    for _ in range(iterations):
        correlation = _look_up(pyramid, grid + flow)
        feature = _update(state, feature, context, visconf, correlation, flow, span)
        flow = flow + _head(state, "flow_head", feature)
        visconf = visconf + _head(state, "visconf_head", feature)
        weights = 0.25 * _conv(
            state, "upsample_weight.2", functional.relu(_conv(state, "upsample_weight.0", feature, 1))
        )
        full_flow, full_visconf = _upsample(flow, weights), _upsample(visconf, weights)
    return (x.unflatten(0, (batch, span)) for x in (full_flow, full_visconf, flow, visconf))


def _volumes(anchor: Tensor, features: Tensor) -> list[Tensor]:
    """All pairs at every level: (B S N, 1, h_l, w_l)."""
    pyramid = []
    for level in range(_LEVELS):
        if level:
            features = functional.interpolate(features, scale_factor=0.5, mode="area")
        volume = anchor.flatten(2).transpose(1, 2) @ features.flatten(2) / math.sqrt(anchor.shape[1])
        pyramid.append(volume.reshape(-1, 1, *features.shape[-2:]))
    return pyramid


def _look_up(pyramid: list[Tensor], points: Tensor) -> Tensor:
    """The 9x9 neighbourhood of every point at every level: (B S, 405, h, w)."""
    span, _, h, w = points.shape
    steps = torch.arange(-_RADIUS, _RADIUS + 1, device=points.device, dtype=points.dtype)
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
    out = []
    for level, volume in enumerate(pyramid):
        centre = points.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) / 2**level
        size = torch.tensor([volume.shape[-1] - 1, volume.shape[-2] - 1], device=points.device)
        where = (centre + offsets) * (2 / size.clamp(min=1)) - 1
        read = functional.grid_sample(volume, where, align_corners=True, padding_mode="border")
        out.append(read.view(span, h, w, -1))
    return torch.cat(out, -1).permute(0, 3, 1, 2)


def _time_embedding(state: State, like: Tensor) -> Tensor:
    if "time_emb" in state:
        return state["time_emb"][0]
    omega = 1 / 10000 ** (torch.arange(64, dtype=torch.float64) / 64)
    angle = torch.arange(_WINDOW, dtype=torch.float64)[:, None] * omega
    return torch.cat((angle.sin(), angle.cos()), 1).to(like)


def _update(state, feature, context, visconf, correlation, flow, span):
    name = "update_block.motion_encoder."
    seen = functional.relu(_conv(state, name + "convc1", correlation))
    seen = functional.relu(_conv(state, name + "convc2", seen, 1))
    moved = functional.relu(_conv(state, name + "convf1", flow, 2))
    moved = functional.relu(_conv(state, name + "convf2", moved, 1))
    motion = functional.relu(_conv(state, name + "conv", torch.cat((seen, moved), 1), 1))
    x = _conv(state, "update_block.compressor", torch.cat((feature, context, motion, flow, visconf), 1))
    for pair in range(3):
        x = _temporal(state, f"update_block.refine.{2 * pair}.", x, span)
        x = _convnext(state, f"update_block.refine.{2 * pair + 1}.", x)
    return _conv(state, "update_block.final_conv", x)


def _temporal(state: State, name: str, x: Tensor, span: int) -> Tensor:
    _, channels, h, w = x.shape
    tokens = x.view(-1, span, channels, h, w).permute(0, 3, 4, 1, 2).reshape(-1, span, channels)
    y = functional.layer_norm(tokens, (channels,), eps=1e-6)
    query = _linear(state, name + "block.attn.to_q", y)
    key, value = _linear(state, name + "block.attn.to_kv", y).chunk(2, -1)
    query, key, value = (z.unflatten(-1, (8, 16)).transpose(1, 2) for z in (query, key, value))
    attention = (query @ key.transpose(-1, -2) / 4).softmax(-1) @ value
    inner = tokens + _linear(state, name + "block.attn.to_out", attention.transpose(1, 2).flatten(2))
    y = functional.layer_norm(inner, (channels,), eps=1e-6)
    y = functional.gelu(_linear(state, name + "block.mlp.fc1", y), approximate="tanh")
    inner = inner + _linear(state, name + "block.mlp.fc2", y)
    tokens = tokens + inner * state[name + "layer_scale"].view(-1)
    return tokens.view(-1, h, w, span, channels).permute(0, 3, 4, 1, 2).reshape(-1, channels, h, w)


def _head(state: State, name: str, feature: Tensor) -> Tensor:
    return _conv(state, name + ".2", functional.relu(_conv(state, name + ".0", feature, 1)), 1)


def _upsample(value: Tensor, weights: Tensor) -> Tensor:
    batch, channels, h, w = value.shape
    weights = weights.view(batch, 1, 9, 8, 8, h, w).softmax(2)
    around = functional.unfold(8 * value, 3, padding=1).view(batch, channels, 9, 1, 1, h, w)
    return (weights * around).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, 8 * h, 8 * w)


# --- encoders ---------------------------------------------------------------------------------------------------------


def _encode(state: State, frames_BTCHW: Tensor) -> Tensor:
    x = frames_BTCHW.flatten(0, 1)
    x = _encode_full(state, x) if "dot_conv.weight" in state else _encode_tiny(state, x)
    return x.unflatten(0, frames_BTCHW.shape[:2])


def _encode_full(state: State, x: Tensor) -> Tensor:
    name = "cnn.features."
    x = functional.conv2d(x, state[name + "0.0.weight"], state[name + "0.0.bias"], stride=4)
    x = _channel_norm(state, name + "0.1", x)
    for block in range(3):
        x = _convnext(state, f"{name}1.{block}.", x)
    x = _channel_norm(state, name + "2.0", x)
    x = functional.conv2d(x, state[name + "2.1.weight"], state[name + "2.1.bias"], stride=2)
    for block in range(3):
        x = _convnext(state, f"{name}3.{block}.", x)
    x = _channel_norm(state, name + "4.0", x)
    x = functional.conv2d(x, state[name + "4.1.weight"], state[name + "4.1.bias"], padding=2, dilation=2)
    for block in range(9):
        x = _convnext(state, f"{name}5.{block}.", x)
    return _conv(state, "dot_conv", x)


def _convnext(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias = state[name + "block.0.weight"], state[name + "block.0.bias"]
    y = functional.conv2d(x, weight, bias, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
    y = functional.layer_norm(y, y.shape[-1:], state[name + "block.2.weight"], state[name + "block.2.bias"], 1e-6)
    y = _linear(state, name + "block.5", functional.gelu(_linear(state, name + "block.3", y))).permute(0, 3, 1, 2)
    return x + state[name + "layer_scale"] * y


def _encode_tiny(state: State, x: Tensor) -> Tensor:
    h, w = x.shape[-2] // 8, x.shape[-1] // 8
    x = functional.relu(
        functional.instance_norm(functional.conv2d(x, state["fnet.conv1.weight"], state["fnet.conv1.bias"], 2, 3))
    )
    levels = []
    for layer in range(1, 5):
        x = _residual(state, f"fnet.layer{layer}.0.", x, 1 if layer == 1 else 2)
        x = _residual(state, f"fnet.layer{layer}.1.", x, 1)
        levels.append(functional.interpolate(x, (h, w), mode="bilinear", align_corners=True))
    x = functional.relu(functional.instance_norm(_conv(state, "fnet.conv2", torch.cat(levels, 1), 1)))
    return _conv(state, "fnet.conv3", x)


def _residual(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    y = functional.conv2d(x, state[name + "conv1.weight"], state[name + "conv1.bias"], stride, 1)
    y = functional.relu(functional.instance_norm(y))
    y = functional.relu(functional.instance_norm(_conv(state, name + "conv2", y, 1)))
    if name + "downsample.0.weight" in state:
        x = functional.conv2d(x, state[name + "downsample.0.weight"], state[name + "downsample.0.bias"], stride)
        x = functional.instance_norm(x)
    return functional.relu(x + y)


def _channel_norm(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias = state[name + ".weight"], state[name + ".bias"]
    return functional.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, 1e-6).permute(0, 3, 1, 2)


def _conv(state: State, name: str, x: Tensor, padding: int = 0) -> Tensor:
    return functional.conv2d(x, state[name + ".weight"], state[name + ".bias"], padding=padding)


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, state[name + ".weight"], state[name + ".bias"])
