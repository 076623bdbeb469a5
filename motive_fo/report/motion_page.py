"""The page of the motion step: counts, distributions, and clips of each kind with their frames, flow and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from motive_fo.motion.picture import filmstrip, flow_colours, heat, jpeg
from motive_fo.report.page import histogram, page, picture, table


@dataclass(frozen=True)
class ShownClip:
    """A clip that is shown with pictures.

    Attributes:
        id, caption: as in the dataset; both are escaped.
        facts: what is said of it, such as "mean 0.31 px".
        frames_THW3, flow_THW2, mask_Fhw: what is drawn.
    """

    id: str
    caption: str
    facts: str
    frames_THW3: npt.NDArray[np.uint8]
    flow_THW2: npt.NDArray[np.float32]
    mask_Fhw: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Distribution:
    """A histogram: title, unit, one value per clip."""

    title: str
    unit: str
    values: Sequence[float]


def motion_page(
    title: str,
    facts: Sequence[tuple[str, object]],
    distributions: Sequence[Distribution],
    groups: Sequence[tuple[str, str, Sequence[ShownClip]]],
) -> str:
    """The whole page as HTML.

    Args:
        facts: rows of the table at the top.
        groups: (heading, explanation, clips) of each kind, in order.
    """
    plots = "".join(histogram(d.title, d.unit, d.values) for d in distributions)
    parts = [table(facts), f'<h2>Distributions</h2><div class="plots">{plots}</div>']
    for heading, explanation, clips in groups:
        parts.append(f'<h2>{escape(heading)}</h2><p class="note">{escape(explanation)}</p>')
        parts += [_clip(clip) for clip in clips] or ['<p class="note">none</p>']
    return page(title, "\n".join(parts))


def _clip(clip: ShownClip) -> str:
    strips = (
        (clip.frames_THW3, "frames"),
        (flow_colours(clip.flow_THW2), "flow: colour is direction"),
        (heat(clip.mask_Fhw, 1.0), "motion mask on the latent grid"),
    )
    images = "".join(picture(jpeg(filmstrip(frames)), f"{what} of {clip.id}") for frames, what in strips)
    return f'<div class="clip"><b>{escape(clip.id)}</b> {escape(clip.facts)}<br>{escape(clip.caption)}{images}</div>'
