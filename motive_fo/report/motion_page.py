"""The page of the motion step: counts, distributions, and clips of each kind with their frames, flow and mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from motive_fo.motion.picture import flow_colours, heat
from motive_fo.report.page import render
from motive_fo.report.plot import Plot
from motive_fo.report.strip import ShownClip, Strip, strip


def motion_strips(
    clip_id: str,
    frames_THW3: npt.NDArray[np.uint8],
    flow_THW2: npt.NDArray[np.float32],
    mask_Fhw: npt.NDArray[np.float32],
) -> tuple[Strip, ...]:
    """Frames, flow and mask of a clip, one strip each."""
    return (
        strip(frames_THW3, f"frames of {clip_id}"),
        strip(flow_colours(flow_THW2), f"flow of {clip_id}: colour is direction"),
        strip(heat(mask_Fhw, 1.0), f"motion mask of {clip_id} on the latent grid"),
    )


def motion_page(
    title: str,
    facts: Sequence[tuple[str, object]],
    distributions: Sequence[Plot],
    groups: Sequence[tuple[str, str, Sequence[ShownClip]]],
) -> str:
    """The whole page as HTML.

    Args:
        facts: rows of the table at the top.
        groups: (heading, explanation, clips) of each kind, in order.
    """
    return render("motion.html", title=title, facts=facts, distributions=distributions, groups=groups)
