"""Training steps on single clips of a run, from its dataset and store; each one that was taken is kept in its record.

Shapes: Q queries, R noises.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.run_record import RunRecord, encodings_folder, save_run
from motive_fo.errors import ConfigError, MotiveError
from motive_fo.pipeline.record import ClipRecord, as_clip_error, version_of
from motive_fo.progress import Progress
from motive_fo.quality.settings import AttributionQualityConfig
from motive_fo.store.run_store import Role, RunStore

if TYPE_CHECKING:
    from motive_fo.models.base import VideoModel
    from motive_fo.quality.losses import Example
    from motive_fo.quality.tail_patch import PatchStep, TailPatch

    Made = Generator[tuple[ClipRecord, Example | Exception]]

STEP: Final = "tail-patch"
"""Where a run's record keeps the steps that were taken."""

_FIRST_NOISE: Final = 1000  # seeds from here on, but for those the run used


@dataclass(frozen=True)
class PatchRequest:
    """Steps to take.

    Attributes:
        queries: whose losses are measured.
        clips: on which steps are taken, one each.
        settings: how.
    """

    queries: Sequence[ClipRecord]
    clips: Sequence[ClipRecord]
    settings: AttributionQualityConfig


@dataclass
class MeasuredFalls:
    """What the steps did.

    Attributes:
        queries: ids of those whose loss could be measured.
        falls: clip id -> fall of each of their losses, mean over timesteps: (Q, R).
        contents: clip id -> digest of the file and caption that were stepped on.
        failed: clip or query id -> why not.
    """

    queries: list[str] = field(default_factory=list)
    falls: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def measured_falls(
    dataset: Any, record: RunRecord, store: RunStore, request: PatchRequest, progress: Progress
) -> MeasuredFalls:
    """Take one step on every clip that was not stepped on before, and keep what it did.

    Raises:
        MotiveError: the model cannot be loaded, or cannot be stepped in its precision.
    """
    key = _key(record, store, request)
    known = record.steps.get(STEP, {})
    measured = MeasuredFalls()
    if known.get("key") == key:
        measured.queries, measured.contents = list(known["queries"]), dict(known["contents"])
        measured.falls = {clip_id: np.asarray(fall) for clip_id, fall in known["falls"].items()}
    contents = {clip.id: version_of(clip, with_caption=True).content for clip in request.clips}
    todo = [clip for clip in request.clips if measured.contents.get(clip.id) != contents[clip.id]]
    progress(STEP, len(request.clips) - len(todo), len(request.clips))
    if todo:
        _Steps(dataset, record, store, request, key, measured, progress).take(todo, contents)
    return measured


@dataclass(frozen=True)
class _Steps:
    dataset: Any
    record: RunRecord
    store: RunStore
    request: PatchRequest
    key: str
    measured: MeasuredFalls
    progress: Progress

    def take(self, todo: Sequence[ClipRecord], contents: Mapping[str, str]) -> None:
        from motive_fo.attribution.parameters import attributed_parameters
        from motive_fo.pipeline.sketching import settled_threads
        from motive_fo.quality.tail_patch import tail_patch

        attribution, measured = self.record.section("attribution"), self.measured
        encoder, stepped = _models(self.record, self.request.settings)
        # one pass for queries and clips: the encoders of a large model come and go once
        with closing(self._examples([*self.request.queries, *todo], encoder)) as made:
            queries = self._queries(made)
            if list(queries) != measured.queries:  # one could not be read before, or no longer can
                measured.queries, measured.falls, measured.contents = list(queries), {}, {}
            parameters = attributed_parameters(stepped.network, attribution.include, attribution.exclude)
            how = _step(self.record, self.store, self.request.settings)
            done = len(self.request.clips) - len(todo)
            with settled_threads(stepped), tail_patch(stepped, list(queries.values()), how, parameters) as patch:
                for clip, example in made:
                    self._one(patch, clip, example)
                    if clip.id in measured.falls:
                        measured.contents[clip.id] = contents[clip.id]
                    self._keep()
                    done += 1
                    self.progress(STEP, done, len(self.request.clips))

    def _examples(self, records: Sequence[ClipRecord], encoder: VideoModel) -> Made:
        from motive_fo.quality.examples import examples

        keep = self.record.section("attribution").keep_encodings
        return examples(
            records,
            encoder,
            motion_settings(self.record),
            self.store.table("motion"),
            kept=encodings_folder() if keep else None,
            scratch=self.store.place.beside(".encodings"),
            progress=self.progress,
        )

    def _queries(self, made: Made) -> dict[str, Example]:
        """The first of what is made; a query that fails is left out."""
        queries: dict[str, Example] = {}
        for query, (_, example) in zip(self.request.queries, made, strict=False):
            if isinstance(example, Exception):
                self.measured.failed[query.id] = told(example)
            else:
                queries[query.id] = example
        return queries

    def _one(self, patch: TailPatch, clip: ClipRecord, example: Example | Exception) -> None:
        try:
            if isinstance(example, Exception):
                raise example
            ordinary = self.request.settings.step_loss == "ordinary"
            fall_QSR = patch.falls(replace(example, mask_Fhw=None) if ordinary else example)
        except ConfigError:
            raise  # every clip would say the same
        except Exception as error:  # a clip never stops the others: whatever it raises is told of it
            self.measured.failed[clip.id] = told(error)
        else:
            self.measured.falls[clip.id] = fall_QSR.mean(1)

    def _keep(self) -> None:
        measured = self.measured
        self.record.steps[STEP] = {
            "clips": len(measured.falls),
            "key": self.key,
            "queries": measured.queries,
            "contents": measured.contents,
            "falls": {clip_id: fall_QR.tolist() for clip_id, fall_QR in measured.falls.items()},
        }
        save_run(self.dataset, self.record)


def _models(record: RunRecord, settings: AttributionQualityConfig) -> tuple[VideoModel, VideoModel]:
    """The model whose encoders the run used, and the one that takes steps: the same where its precision allows it."""
    from motive_fo.models.diffusion.model import settle_precision
    from motive_fo.models.registry import attributed_model

    attribution = record.section("attribution")
    if attribution.offload == "on":
        raise ConfigError(
            "the run's network is offloaded, and steps need all of it on the device: leave them out with --clips 0"
        )
    spec = motion_settings(record).spec
    attribution = replace(attribution, offload="off")
    encoder = attributed_model(attribution, spec)
    if settings.precision == "run" or settle_precision(attribution.precision, str(encoder.device)) == "float32":
        return encoder, encoder
    return encoder, attributed_model(replace(attribution, precision="float32"), spec)


def _step(record: RunRecord, store: RunStore, settings: AttributionQualityConfig) -> PatchStep:
    """How a step is taken: at the run's timesteps, at noise that no gradient of the run has seen."""
    from motive_fo.quality.tail_patch import PatchStep

    fresh = fresh_noises(store, 2 * settings.draws)
    influence, attribution = record.section("influence"), record.section("attribution")
    return PatchStep(
        timesteps=influence.timesteps or attribution.timesteps,
        noises=fresh[: settings.draws],
        measured_noises=fresh[settings.draws :],
        length=settings.step,
        rule=settings.rule,
    )


def fresh_noises(store: RunStore, count: int) -> tuple[int, ...]:
    """Seeds of noise that no gradient of the run has seen."""
    roles: tuple[Role, ...] = ("train", "query")
    seen = {sample.noise for role in roles for sample in store.sketches(role).stored}
    fresh = [seed for seed in range(_FIRST_NOISE, _FIRST_NOISE + len(seen) + count) if seed not in seen]
    return tuple(fresh[:count])


def _key(record: RunRecord, store: RunStore, request: PatchRequest) -> str:
    """Digest of all that a fall depends on but the clip that is stepped on."""
    settings = request.settings
    facts = {
        "sketches": store.sketches("query").identity,
        "step": asdict(_step(record, store, settings)),
        "loss": settings.step_loss,
        "precision": settings.precision,
        "queries": [[query.id, version_of(query, with_caption=True).content] for query in request.queries],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:40]


def told(error: Exception) -> str:
    """Why a clip or query cannot take part."""
    if isinstance(error, MotiveError):
        return str(error)
    told = as_clip_error(error)
    return f"{told.code}: {told.message}"
