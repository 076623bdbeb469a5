"""Work on clips that other processes do: what is asked of them, what they answer, and where they come from.

The step that asks is the only writer of the store. A crew hands orders to its workers and answers back in the order
they were given, so that which of two equal clips is the duplicate never depends on who was faster. What a worker does
with a clip is ``motive_fo.pipeline.clip_worker``, by the functions a run in one process calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from motive_fo.config import AttributionConfig, EngineConfig
from motive_fo.errors import ClipError, InputError
from motive_fo.pipeline.measured import MeasuredMotion
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.report import StepReport
from motive_fo.store.sketches import Sample

if TYPE_CHECKING:
    from motive_fo.models.base import VideoModel
    from motive_fo.pipeline.motion import MotionSettings

Item = TypeVar("Item")

Work = Literal["motion", "prepare", "sketch", "sketch_encoded"]


@dataclass(frozen=True)
class Order:
    """What is to be done with one clip.

    Attributes:
        work: ``motion``: its row; ``prepare``: mask and encoding; ``sketch``: those and the sketches;
            ``sketch_encoded``: sketches of what is prepared.
        mask: what is known of its motion (``preparing.KnownMask``); for ``sketch_encoded`` the mask itself.
        samples: the sketches to take.
        encoded: latent and condition on the CPU, for ``sketch_encoded``.
    """

    work: Work
    record: ClipRecord
    mask: Any = None
    samples: tuple[Sample, ...] = ()
    encoded: Any = None


@dataclass(frozen=True)
class Answer:
    """What a worker made of an order.

    Attributes:
        value: ``motion``: the ``Row``; ``prepare``: the ``Prepared``; else the ``Prepared`` (None where it was given)
            and its outcomes.
        seconds: time in each stage.
        kept: arguments of ``MeasuredMotion.keep`` for motion measured on the way.
        missing_on: name of the machine that has no such file.
    """

    value: Any
    seconds: Mapping[str, float] = field(default_factory=dict)
    kept: tuple[tuple[Any, ...], ...] = ()
    missing_on: str | None = None


class Crew(Protocol):
    """Workers on other processes or machines; a context manager that lets them go."""

    @property
    def device(self) -> str:
        """What they compute on, for the record."""
        ...

    @property
    def model(self) -> VideoModel:
        """The attributed model as this process needs it: for identity and sizes. Workers have their own."""
        ...

    def map(self, orders: Iterable[tuple[Item, Order | None]]) -> Iterator[tuple[Item, Answer | ClipError | None]]:
        """Answers in the order given; None for no order, ``ClipError`` (``worker_died``) for a clip that ends workers.

        Orders are taken only as workers come free.

        Raises:
            MotiveError: what no clip is to blame for.
        """
        ...


def answers_of(
    crew: Crew, orders: Iterable[tuple[Item, Order | None]], report: StepReport, measured: MeasuredMotion
) -> Iterator[tuple[Item, Answer | ClipError | None]]:
    """A crew's answers. What it measured is kept, and its time is added to the report's stages.

    Raises:
        InputError: a worker's machine does not have a file that this one has.
    """
    paths: dict[int, ClipRecord] = {}

    def noted() -> Iterator[tuple[tuple[int, Item], Order | None]]:
        for number, (item, order) in enumerate(orders):
            if order is not None:
                paths[number] = order.record
            yield (number, item), order

    for (number, item), answer in crew.map(noted()):
        record = paths.pop(number, None)
        if isinstance(answer, Answer):
            if answer.missing_on is not None and record is not None and record.path.exists():
                raise InputError(
                    f"{record.path} exists here but not on the machine {answer.missing_on}: all machines of a Ray "
                    "cluster must see the videos under the same path, on storage they share"
                )
            for stage, seconds in answer.seconds.items():
                report.seconds[stage] = report.seconds.get(stage, 0.0) + seconds
            for kept in answer.kept:
                measured.keep(*kept)
        yield item, answer


def open_crew(
    engine: EngineConfig, motion: MotionSettings, attribution: AttributionConfig | None = None
) -> AbstractContextManager[Crew | None]:
    """The workers an engine stands for, None for this process.

    Args:
        attribution: the run's; None where no gradients are taken.

    Raises:
        MotiveError: the engine is not installed, or there is no such cluster.
    """
    if engine.engine == "local":
        return nullcontext()
    from motive_fo.pipeline.ray_engine import RayCrew

    return RayCrew(engine, motion, attribution)
