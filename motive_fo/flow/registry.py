"""Flow estimators by name. A new estimator is one module and one line here; there is no silent second choice."""

from __future__ import annotations

from dataclasses import replace

from motive_fo.config import FlowConfig
from motive_fo.errors import ConfigError, InputError
from motive_fo.flow.base import FlowEstimator


def settle_estimator(config: FlowConfig) -> FlowConfig:
    """The configuration with ``auto`` replaced by what it means on this machine; nothing is downloaded.

    ``Choice:`` AllTracker is the method's estimator and the better one, but its weights are not ours to ship. Whoever
    has put them on the machine gets it, whoever has not gets one that needs none; a run keeps what it was begun with.
    """
    if config.estimator != "auto":
        return config
    from motive_fo.flow.alltracker.weights import find_weights

    try:
        find_weights("full", config.tracker_weights, download=False)
    except InputError:
        return replace(config, estimator="dis")
    return replace(config, estimator="alltracker")


def build_estimator(config: FlowConfig) -> FlowEstimator:
    """The estimator a configuration names.

    Raises:
        ConfigError: unknown name, or a reading the estimator does not give.
        InputError: weights that are missing or wrong.
    """
    config = settle_estimator(config)
    estimator = _build(config)
    if config.reading not in estimator.readings:
        given = " or ".join(sorted(estimator.readings))
        raise ConfigError(f"flow estimator {config.estimator!r} gives the reading {given}, not {config.reading}")
    return estimator


def _build(config: FlowConfig) -> FlowEstimator:
    if config.estimator == "dis":
        from motive_fo.flow.dis import DISFlow

        return DISFlow(config.anchor)
    if config.estimator == "farneback":
        from motive_fo.flow.farneback import FarnebackFlow

        return FarnebackFlow(config.anchor)
    if config.estimator in ("alltracker", "alltracker-tiny"):
        from motive_fo.flow.alltracker.estimator import AllTrackerFlow

        return AllTrackerFlow(
            "full" if config.estimator == "alltracker" else "tiny",
            config.tracker_weights,
            input_size=config.tracker_size,
            anchor=config.anchor_frame,
            iterations=config.tracker_iterations,
            device=config.tracker_device,
            precision=config.tracker_precision,
            memory_mib=config.tracker_memory,
        )
    raise ConfigError(
        f"unknown flow estimator {config.estimator!r}: choose auto, alltracker, alltracker-tiny, dis or farneback"
    )
