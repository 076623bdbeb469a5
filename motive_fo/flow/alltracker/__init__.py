"""AllTracker (Harley et al., arXiv 2506.07310): dense point tracking of one frame through a clip.

``build_network`` gives the network and needs torch alone; ``weights`` finds and loads the official checkpoints;
``readings`` turns tracks into the two readings of displacement; ``estimator`` is all of it as a flow estimator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from motive_fo.flow.alltracker.network import AllTracker

Variant = Literal["full", "tiny"]


def build_network(variant: Variant) -> AllTracker:
    """The network with untrained weights, ready for inference. See ``network.AllTracker`` for how it is called.

    Args:
        variant: ``full`` (16.5 M parameters) or ``tiny`` (6.3 M).
    """
    from motive_fo.flow.alltracker.network import AllTracker  # torch is loaded only where a network is wanted

    return AllTracker(variant).eval()
