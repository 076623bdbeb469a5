"""Exact tracks of the synthetic scenes from any frame, as a perfect tracker would give them."""

import numpy as np

from motive_fo.flow.alltracker.readings import Tracks
from motive_fo.flow.chain import inside, pixel_grid
from motive_fo.synthetic import scene as scenes


def exact_tracks(scene, anchor, *, frames, fps, height, width):
    """Tracks of the anchor frame's pixels; anchor 0 is ``scenes.anchor_displacement``, which a test compares."""
    instants = scenes._instants(scene, frames, fps, height, width)
    masks = scenes._masks(scene, instants, height, width)
    grid = pixel_grid(height, width).astype(np.float64)
    flow = np.zeros((frames, height, width, 2), np.float32)
    seen = np.zeros((frames, height, width), np.float32)
    for t in range(frames):
        for layer, chosen in (("world", ~masks[anchor]), ("turned", masks[anchor])):
            moved = getattr(instants[t], layer) @ np.linalg.inv(getattr(instants[anchor], layer))
            flow[t][chosen] = (grid[chosen] @ moved[:2, :2].T + moved[:2, 2]) - grid[chosen]
        places = grid + flow[t]
        column, row = np.rint(places).astype(int).clip(0, (width - 1, height - 1)).transpose(2, 0, 1)
        seen[t] = inside(np.float32(places)) & (masks[t][row, column] == masks[anchor])
    return Tracks(flow, seen, anchor % frames)
