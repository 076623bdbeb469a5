"""A worker of a crew: it holds a model, decodes a clip while it computes another, and writes nothing.

What it does with a clip are the functions of a run in one process (``motion.clip_row``, ``preparing.prepare``,
``sketching.take_sketches``), with model, projection and threads set up likewise, so that on equal hardware every number
is the same to the last bit.

``Choice:`` a clip is decoded by a child of the worker that computes it (``clips.worker``: limits of time and memory,
and a crash costs the clip alone), one clip ahead, on a CPU of the same machine: frames, 97 MB a clip at 480x832, never
cross a network. Two calls at a time keep it busy: one decodes while the other computes, in the one thread that does.
"""

from __future__ import annotations

import copyreg
import json
import os
import platform
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from motive_fo.attribution.gradients import Sketch
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.clips.clip import Clip
from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig
from motive_fo.errors import ClipError
from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.models.card import ModelCard
from motive_fo.models.registry import attributed_model
from motive_fo.pipeline.crew import Answer, Order
from motive_fo.pipeline.encoding import DirectEncodings, Encoded
from motive_fo.pipeline.measured import MeasuredMotion
from motive_fo.pipeline.motion import MotionSettings, clip_row
from motive_fo.pipeline.preparing import Prepared, prepare
from motive_fo.pipeline.record import Version, as_clip_error, version_of
from motive_fo.pipeline.report import StepReport
from motive_fo.pipeline.sketching import Outcomes, Sketcher, SketchTask, projection_of, sketching, take_sketches
from motive_fo.store.table import Row

CALLS: Final = 2
"""Calls a worker takes at a time."""

# an exception is pickled as its class and its text, and this one is made of three parts
copyreg.pickle(ClipError, lambda error: (ClipError, (error.stage, error.code, error.message)))


@dataclass(frozen=True)
class Setup:
    """All a worker needs to know.

    Attributes:
        attribution: None where no gradients are taken.
        device: ``cpu`` or ``cuda``, the one GPU it sees.
        threads: torch's threads in the process that runs the step.
        path: where that process imports from.
    """

    clip: ClipConfig
    flow: FlowConfig
    motion: MotionConfig
    card: ModelCard
    attribution: AttributionConfig | None
    device: str
    threads: int
    path: tuple[str, ...]


class ClipWorker:
    """One process of a crew. ``open`` comes first; ``do`` may then be called from ``CALLS`` threads."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        # One thread for the model: torch keeps the number of its threads for each thread that calls it.
        self._compute = ThreadPoolExecutor(1, "motive-compute")
        self._model: VideoModel | None = None
        self._streaming = ExitStack()
        self._sketcher: Sketcher | None = None

    def open(self) -> dict[str, Any]:
        """Load everything; returns what must be equal in all processes. Raises ``MotiveError``."""
        sys.path += [place for place in self._setup.path if place not in sys.path]
        if self._setup.device == "cpu":  # several of these must not all take the machine's first GPU
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return self._compute.submit(self._open).result()

    def _open(self) -> dict[str, Any]:
        torch.set_num_threads(self._setup.threads)
        self._motion = MotionSettings.build(self._setup.clip, self._setup.flow, self._setup.motion, self._setup.card)
        self._pool = self._motion.pool()
        if self._setup.attribution is not None:
            self._attribution = replace(self._setup.attribution, device=self._setup.device, devices=())
            self._model = attributed_model(self._attribution, self._motion.spec)
            self._projection = projection_of(self._model, self._attribution)
        projection = None if self._model is None else self._projection.identity()
        return worker_identity(self._motion, self._model, projection)

    def do(self, order: Order) -> Answer:
        """Carry out an order. Raises ``MotiveError`` for wrong use; what a clip is to blame for is in the answer."""
        report, noted = StepReport("worker"), _Noted()
        version, outcome = Version(-1, -1, ""), None
        if order.encoded is None:
            version = version_of(order.record, with_caption=order.work != "motion")  # before the file is read
            with report.timed("decode"):
                outcome = self._decoded(order)
        missing = isinstance(outcome, ClipError) and outcome.code == "missing_file"
        value = self._compute.submit(self._carry_out, order, version, outcome, report, noted).result()
        return Answer(value, report.seconds, tuple(noted.kept), platform.node() if missing else None)

    def _decoded(self, order: Order) -> Clip | ClipError:
        try:
            return self._pool.decode(self._motion.request(order.record))
        except ClipError as error:
            return error

    # -- in the thread that computes ----------------------------------------------------------------------------------

    def _carry_out(
        self, order: Order, version: Version, outcome: Clip | ClipError | None, report: StepReport, noted: _Noted
    ) -> Row | Prepared | tuple[Prepared | None, Outcomes]:
        if outcome is None:
            return None, self._sketches(order.encoded, order.mask, order, report)
        if order.work == "motion":
            return clip_row(order.record, version, outcome, self._motion, report, noted)
        assert self._model is not None
        if isinstance(self._model, StagedModel):
            self._stop_sketching()
            self._model.make_room()
        prepared = prepare(
            order.record, version, outcome, order.mask, self._motion, DirectEncodings(self._model), report, noted
        )
        if prepared.error is not None:
            prepared = replace(prepared, error=as_clip_error(prepared.error))
        if order.work == "prepare":
            return replace(prepared, encoded=None if prepared.encoded is None else _on_cpu(prepared.encoded))
        if prepared.encoded is None:
            return prepared, {}
        outcomes = self._sketches(prepared.encoded, prepared.mask, order, report)
        return replace(prepared, encoded=None), outcomes

    def _sketches(self, encoded: Encoded, mask: Any, order: Order, report: StepReport) -> Outcomes:
        model, sketcher = self._model, self._sketching()
        assert model is not None
        x0, condition = encoded.x0, encoded.condition
        if order.work == "sketch_encoded":
            x0 = x0.to(model.device)
            condition = {name: tensor.to(model.device) for name, tensor in condition.items()}
        (outcomes,) = take_sketches(sketcher, [SketchTask(x0, condition, mask, order.samples)], report)
        if any(isinstance(each, RuntimeError) and "CUDA error" in str(each) for each in outcomes.values()):
            os._exit(1)  # whatever this process asks of the GPU now fails: only another one can go on
        return {s: each if isinstance(each, Sketch) else as_clip_error(each) for s, each in outcomes.items()}

    def _sketching(self) -> Sketcher:
        model = self._model
        assert model is not None
        if self._sketcher is None:
            if isinstance(model, StagedModel):
                model.leave_encoders()
            parameters = attributed_parameters(model.network, self._attribution.include, self._attribution.exclude)
            self._sketcher = self._streaming.enter_context(
                sketching(model, self._projection, parameters, self._motion.spec)
            )
        return self._sketcher

    def _stop_sketching(self) -> None:
        self._streaming.close()
        self._sketcher = None


class _Noted(MeasuredMotion):
    """Notes what was measured for the process that keeps it."""

    def __init__(self) -> None:
        super().__init__(None, [], writable=False)
        self.kept: list[tuple[Any, ...]] = []

    def keep(self, *arguments: Any) -> None:
        self.kept.append(arguments)


def worker_identity(
    motion: MotionSettings, model: VideoModel | None, projection: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What must be equal in all processes of a run, as plain data."""
    parts = {**motion.identity(), "model": None if model is None else dict(model.identity()), "projection": projection}
    plain: dict[str, Any] = json.loads(json.dumps(parts))
    return plain


def _on_cpu(encoded: Encoded) -> Encoded:
    condition = {name: tensor.cpu() for name, tensor in encoded.condition.items()}
    return Encoded(encoded.x0.cpu(), condition, encoded.decoder)
