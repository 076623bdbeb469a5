"""How the sketches of prepared clips are taken: the same in this process and in one of its own on another device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.batched import batching
from motive_fo.attribution.gradients import GradientTask, Sketch, StreamingBackward, clip_sketch, streaming
from motive_fo.attribution.parameters import NamedParameters, attributed_parameters
from motive_fo.attribution.projection import Projection, build_projection
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import AttributionConfig
from motive_fo.errors import MotiveError
from motive_fo.models.base import BatchedModel, StagedModel, VideoModel
from motive_fo.pipeline.report import StepReport
from motive_fo.store.sketches import Sample

_SMALL_MODEL = 20_000_000  # parameters


class SketchTask(NamedTuple):
    """A clip whose sketches are to be taken.

    Attributes:
        x0, condition, mask_Fhw: as in ``GradientTask``.
        samples: one sketch for each.
    """

    x0: torch.Tensor
    condition: Any
    mask_Fhw: npt.NDArray[np.float32] | None
    samples: Sequence[Sample]


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


class Sketcher(Protocol):
    """Takes sketches: of one gradient after the other, or of several in one pass. Made by ``sketching``."""

    @property
    def width(self) -> int:
        """Gradients of one pass."""
        ...

    def sketches(self, tasks: Sequence[GradientTask]) -> Sequence[Sketch | Exception]:
        """A sketch of each of at most ``width`` tasks, or what it raised.

        Raises:
            MotiveError: wrong use, which every clip would meet.
        """
        ...


@contextmanager
def sketching(
    model: VideoModel, projection: Projection, parameters: NamedParameters, spec: ClipSpec
) -> Iterator[Sketcher]:
    """What takes the sketches of clips of this specification; threads and network are set up for it meanwhile."""
    with settled_threads(model):
        width = model.width(model.latent_shape(spec)) if isinstance(model, BatchedModel) else 1
        if isinstance(model, BatchedModel) and width > 1:
            with batching(model, projection, width, parameters) as batched:
                yield batched
        else:
            with streaming(model.network, projection, parameters, model.device) as backward:
                yield _OneByOne(model, backward)


class _OneByOne:
    """Streams one gradient after the other."""

    width = 1

    def __init__(self, model: VideoModel, backward: StreamingBackward) -> None:
        self._model, self._backward = model, backward

    def sketches(self, tasks: Sequence[GradientTask]) -> list[Sketch | Exception]:
        return [clip_sketch(self._model, self._backward, *task) for task in tasks]


def take_sketches(sketcher: Sketcher, clips: Sequence[SketchTask], report: StepReport) -> list[Outcomes]:
    """Of each clip one sketch for each sample, or what it raised: one that fails says nothing of the others.

    Raises:
        MotiveError: wrong use, which every clip would meet.
    """
    places = [(n, sample) for n, clip in enumerate(clips) for sample in clip.samples]
    outcomes: list[dict[Sample, Sketch | Exception]] = [{} for _ in clips]
    for start in range(0, len(places), sketcher.width):
        some = places[start : start + sketcher.width]
        tasks = [GradientTask(clips[n].x0, clips[n].condition, clips[n].mask_Fhw, *sample) for n, sample in some]
        with report.timed("gradient"):
            for (n, sample), taken in zip(some, _taken(sketcher, tasks), strict=True):
                outcomes[n][sample] = taken
    return list(outcomes)


def _taken(sketcher: Sketcher, tasks: Sequence[GradientTask]) -> Sequence[Sketch | Exception]:
    """What a pass gives. Where it fails as a whole, each of its tasks is tried alone, to know whose fault it is."""
    try:
        return sketcher.sketches(tasks)
    except MotiveError:
        raise
    except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
        if len(tasks) == 1:
            return [error]
    return [_taken(sketcher, [task])[0] for task in tasks]


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
