"""Sets of clips measured alike and compared: every set by itself, and the first one against each of the others."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motive_fo.clips.clip import Clip
from motive_fo.clips.messages import Request
from motive_fo.clips.probe import probe
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.worker import DecodePool, decode_ahead
from motive_fo.config import FlowConfig, plain
from motive_fo.errors import ClipError, InputError, MotiveError
from motive_fo.evaluation.clips import ClipSet, EvaluatedClip, pair_up
from motive_fo.evaluation.measure import METRICS, ClipMotion, measure_clip
from motive_fo.evaluation.settings import EvaluationConfig
from motive_fo.evaluation.statistics import (
    Interval,
    Resampling,
    difference_paired,
    difference_unpaired,
    mean_interval,
    share_interval,
)
from motive_fo.flow.base import FlowEstimator
from motive_fo.flow.registry import build_estimator, settle_estimator
from motive_fo.progress import Progress, silent


@dataclass(frozen=True)
class MeasuredSet:
    """A set after it was measured.

    Attributes:
        clips: the set.
        motion: name -> what was measured, in the set's order.
        failed: name -> why nothing could be.
        summary: metric -> its mean, or share, with an interval; None where no clip has a value.
    """

    clips: ClipSet
    motion: Mapping[str, ClipMotion]
    failed: Mapping[str, str]
    summary: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Comparison:
    """The first set minus another.

    Attributes:
        first, second: labels.
        paired_by: what the clips of a pair share; None where the sets do not pair up.
        differences: metric -> difference of the means with an interval; None where one side has no value.
    """

    first: str
    second: str
    paired_by: str | None
    differences: Mapping[str, Interval | None]


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that was measured and compared.

    Attributes:
        sets: in the order given.
        comparisons: the first set against each of the others.
        estimator: what motion was measured with.
        settings: how.
    """

    sets: tuple[MeasuredSet, ...]
    comparisons: tuple[Comparison, ...]
    estimator: Mapping[str, Any]
    settings: EvaluationConfig

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "settings": plain(self.settings),
            "estimator": dict(self.estimator),
            "metrics": METRICS,
            "sets": [
                {
                    "label": each.clips.label,
                    "clips": len(each.motion),
                    "failed": dict(each.failed),
                    "summary": {name: found and asdict(found) for name, found in each.summary.items()},
                    "scores": [
                        {
                            "name": clip.name,
                            "path": str(clip.path),
                            "prompt": clip.prompt,
                            "seed": clip.seed,
                            **asdict(each.motion[clip.name]),
                        }
                        for clip in each.clips.clips
                        if clip.name in each.motion
                    ],
                }
                for each in self.sets
            ],
            "comparisons": [
                {
                    "first": each.first,
                    "second": each.second,
                    "paired_by": each.paired_by,
                    "differences": {name: found and asdict(found) for name, found in each.differences.items()},
                }
                for each in self.comparisons
            ],
        }


def evaluate_sets(
    sets: Sequence[ClipSet],
    *,
    config: EvaluationConfig | None = None,
    flow: FlowConfig | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Measure every clip and compare the first set with the others.

    A clip that cannot be decoded or measured is named in its set's ``failed`` and left out; where clips are compared
    pair by pair, so is its partner.

    Raises:
        InputError: no sets, two of one label, or a set of which no clip can be measured.
        MotiveError: an estimator that is not there.
    """
    config, flow = config or EvaluationConfig(), flow or FlowConfig()
    labels = [each.label for each in sets]
    if not labels or len(set(labels)) < len(labels):
        raise InputError(f"sets to compare need names of their own, not {', '.join(labels) or 'none at all'}")
    flow = settle_estimator(flow)
    estimator = build_estimator(flow)
    total = sum(len(each.clips) for each in sets)
    measured: list[MeasuredSet] = []
    done = 0
    progress("evaluate", 0, total)
    with DecodePool(seconds=config.time_limit) as pool:
        for each in sets:
            motion: dict[str, ClipMotion] = {}
            failed: dict[str, str] = {}
            for clip, outcome in _measured(each, pool, estimator, config):
                if isinstance(outcome, ClipMotion):
                    motion[clip.name] = outcome
                else:
                    failed[clip.name] = outcome
                done += 1
                progress("evaluate", done, total)
            if not motion:
                first = next(iter(failed.items()), None)
                why = f", the first: {first[0]} ({first[1]})" if first else ""
                raise InputError(f"none of the {len(each.clips)} clips of {each.label} can be measured{why}")
            measured.append(MeasuredSet(each, motion, failed, _summary(each, motion, config)))
    comparisons = tuple(_compared(measured[0], other, config) for other in measured[1:])
    return EvaluationReport(tuple(measured), comparisons, estimator.identity("step"), config)


def _measured(
    clips: ClipSet, pool: DecodePool, estimator: FlowEstimator, config: EvaluationConfig
) -> Iterator[tuple[EvaluatedClip, ClipMotion | str]]:
    rates: dict[str, float] = {}

    def request(clip: EvaluatedClip) -> Request:
        spec = clip_spec(clip.path, clip.start, config)
        rates[clip.name] = spec.fps
        return Request(clip.path, spec, short="fewer")

    for clip, outcome in decode_ahead(clips.clips, pool, request):
        yield clip, _motion(outcome, rates.get(clip.name, 0.0), estimator)


def _motion(outcome: Clip | ClipError, fps: float, estimator: FlowEstimator) -> ClipMotion | str:
    if isinstance(outcome, ClipError):
        return f"{outcome.code}: {outcome.message}"
    try:
        return measure_clip(outcome.frames_THW3, fps, estimator)
    except ClipError as error:
        return f"{error.code}: {error.message}"
    except MotiveError:
        raise  # wrong use: every clip would say the same
    except Exception as error:  # a clip never stops the others, whatever an estimator raises on it
        return f"internal_error: {type(error).__name__}: {' '.join(str(error).split())}"


def clip_spec(path: Path, start: float, config: EvaluationConfig) -> ClipSpec:
    """A file as it is: all its frames at its own rate and shape, up to the time and size that are looked at.

    Raises:
        ClipError: the file cannot be read, or has fewer than 2 frames in that time.
    """
    facts = probe(path).facts
    frames = min(facts.frames, int(config.seconds * facts.fps))
    if frames < 2:
        raise ClipError(
            "decode", "too_short", f"{path} has {facts.frames} frames: motion needs 2 in {config.seconds:g} s"
        )
    scale = min(1.0, config.short_side / min(facts.height, facts.width))
    height, width = (max(1, round(side * scale)) for side in (facts.height, facts.width))
    return ClipSpec(start, facts.fps, frames, height, width, "none")


def _summary(clips: ClipSet, motion: Mapping[str, ClipMotion], config: EvaluationConfig) -> dict[str, Interval | None]:
    groups = _groups(clips)
    summary = {}
    for metric in METRICS:
        values = _values(motion, metric)
        of = [groups[name] for name in values]
        make = share_interval if metric == "dynamic" else mean_interval
        summary[metric] = make(list(values.values()), of, _how(config))
    return summary


def _compared(first: MeasuredSet, second: MeasuredSet, config: EvaluationConfig) -> Comparison:
    pairing = pair_up(first.clips, second.clips)
    groups, others = _groups(first.clips), _groups(second.clips)
    differences: dict[str, Interval | None] = {}
    for metric in METRICS:
        one, other = _values(first.motion, metric), _values(second.motion, metric)
        if pairing is None:
            differences[metric] = difference_unpaired(
                list(one.values()),
                [groups[name] for name in one],
                list(other.values()),
                [others[name] for name in other],
                _how(config),
            )
            continue
        both = [(a, b) for a, b in pairing.pairs if a in one and b in other]
        differences[metric] = difference_paired(
            [one[a] for a, _ in both], [other[b] for _, b in both], [groups[a] for a, _ in both], _how(config)
        )
    by = None if pairing is None else pairing.by
    return Comparison(first.clips.label, second.clips.label, by, differences)


def _groups(clips: ClipSet) -> dict[str, Hashable]:
    """What is independent of each other: prompts, where they are known, else clips."""
    return {clip.name: ("prompt", clip.prompt) if clip.prompt else ("clip", clip.name) for clip in clips.clips}


def _values(motion: Mapping[str, ClipMotion], metric: str) -> dict[str, float]:
    values = {name: getattr(found, metric) for name, found in motion.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def _how(config: EvaluationConfig) -> Resampling:
    return Resampling(config.resamples, config.confidence, config.seed)
