"""Which frames a clip takes, and what to do with a video that ends too early.

Everything here is arithmetic on a timeline; nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.clips.timeline import Timeline

#: What to do with a video that ends before the clip specification does.
Short = Literal["refuse", "loop", "pad", "fewer"]


@dataclass(frozen=True)
class Plan:
    """The frames of one clip.

    Attributes:
        indices: frame on the timeline for each frame of the clip.
        adjustment: what had to be done to a video that is too short (``looped 2.1 times``); empty if nothing.
        past_end: frames at the end that repeat the last one because the video is over.
    """

    indices: tuple[int, ...]
    adjustment: str = ""
    past_end: int = 0


def plan(video: Timeline, spec: ClipSpec, short: Short = "refuse", rule: FrameRule | None = None) -> Plan | None:
    """Choose the frame of each instant of the clip, or None where the video cannot give them.

    A video that shows nothing at ``spec.start`` gives None under every policy.

    Args:
        video: when each frame is shown.
        spec: the instants wanted.
        short: what to do where the video ends before them. ``refuse``: None. ``loop``: the window starts over when the
            video ends, so instant t shows what is on screen at ``start + t mod (duration - start)``. ``pad``: the last
            frame stays. ``fewer``: the largest number of frames that ``rule`` accepts and the video fills.
        rule: frame counts the model takes; any from 2 on where None.
    """
    instants = spec.times()
    interval = instants[1] - instants[0]
    found = [video.on_screen(instant, interval) for instant in instants]
    indices = [index for index in found if index is not None]  # those past the end are the last ones
    if len(indices) == spec.frames:
        return Plan(tuple(indices))
    if not indices or short == "refuse":
        return None
    if short == "pad":
        missing = spec.frames - len(indices)
        return Plan((*indices, *[indices[-1]] * missing), f"padded {missing} frames", missing)
    if short == "loop":
        length = video.duration - instants[0]
        looped = [video.on_screen(instants[0] + (k * interval) % length, interval) for k in range(spec.frames)]
        times = spec.frames * interval / length
        # an instant that rounding puts past the end is the beginning of the next round
        return Plan(
            tuple(indices[0] if index is None else index for index in looped), f"looped {float(times):.1f} times"
        )
    count = rule.below(len(indices)) if rule is not None else len(indices)
    if count is None or count < 2:
        return None
    return Plan(tuple(indices[:count]), f"{count} of {spec.frames} frames")
