"""The panels of the App: one beside the grid, one in a sample's modal."""

from .clip import ClipMotion
from .influence import MotionInfluence

PANELS = (MotionInfluence, ClipMotion)
"""Every panel; ``fiftyone.yml`` lists the same."""
