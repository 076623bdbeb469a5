"""Exact ``anchor`` motion of a synthetic scene: where the points of frame 0 go, and whether they are seen there."""

import numpy as np

from motive_fo.synthetic.scene import _instants, _masks


def anchor_truth(scene, *, frames, fps, height, width):
    """Displacement (T, H, W, 2) of the points of frame 0 and whether they are seen in frame t (T, H, W)."""
    instants = _instants(scene, frames, fps, height, width)
    masks = _masks(scene, instants, height, width)
    rows, columns = np.mgrid[0:height, 0:width]
    here = np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float64)
    flow, seen = np.zeros((frames, height, width, 2), np.float32), np.zeros((frames, height, width), bool)
    for t in range(frames):
        for layer, chosen in (("world", ~masks[0]), ("turned", masks[0])):
            moved = getattr(instants[t], layer) @ np.linalg.inv(getattr(instants[0], layer))
            flow[t][chosen] = (here[chosen] @ moved.T)[:, :2] - here[chosen][:, :2]
        x, y = np.moveaxis(np.rint(here[..., :2] + flow[t]).astype(int), -1, 0)
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        seen[t] = within & (masks[t][y.clip(0, height - 1), x.clip(0, width - 1)] == masks[0])
    return flow, seen
