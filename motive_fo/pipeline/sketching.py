"""How the sketches of a prepared clip are taken: the same in this process and in one of its own on another device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.gradients import Sketch, StreamingBackward, clip_sketch
from motive_fo.attribution.parameters import NamedParameters, attributed_parameters
from motive_fo.attribution.projection import Projection, build_projection
from motive_fo.config import AttributionConfig
from motive_fo.errors import MotiveError
from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.pipeline.report import StepReport
from motive_fo.store.sketches import Sample

_SMALL_MODEL = 20_000_000  # parameters

Outcomes = Mapping[Sample, Sketch | Exception]
"""What became of each sample of a clip."""


def attributed_outline(model: VideoModel, attribution: AttributionConfig) -> NamedParameters:
    """The attributed parameters, where only their names and sizes matter: a large network is not loaded for them."""
    network = model.outline() if isinstance(model, StagedModel) else model.network
    return attributed_parameters(network, attribution.include, attribution.exclude)


def projection_of(model: VideoModel, attribution: AttributionConfig) -> Projection:
    """The projection for a model's attributed parameters."""
    return build_projection(
        attribution.projection,
        dimension=attribution.dimension,
        block=attribution.block,
        seed=attribution.seed,
        parameters=sum(parameter.numel() for _, parameter in attributed_outline(model, attribution)),
    )


def take_sketches(
    model: VideoModel,
    backward: StreamingBackward,
    x0: torch.Tensor,
    condition: Any,
    mask_Fhw: npt.NDArray[np.float32] | None,
    samples: Sequence[Sample],
    report: StepReport,
) -> Outcomes:
    """One sketch for each sample, or what it raised: a sample that fails says nothing of the others.

    Raises:
        MotiveError: wrong use, which every clip would meet.
    """
    outcomes: dict[Sample, Sketch | Exception] = {}
    for sample in samples:
        try:
            with report.timed("gradient"):
                outcomes[sample] = clip_sketch(model, backward, x0, condition, mask_Fhw, *sample)
        except MotiveError:
            raise
        except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
            outcomes[sample] = error
    return outcomes


@contextmanager
def settled_threads(model: VideoModel) -> Iterator[None]:
    """One torch thread for a small model on a CPU.

    ``Choice:`` its tensors are too small to share out (measured 3 times faster on one thread than on two), and the
    last bit of a sketch then does not depend on the number of cores.
    """
    before = torch.get_num_threads()
    small = sum(p.numel() for p in model.network.parameters()) < _SMALL_MODEL
    if model.device.type == "cpu" and small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
