"""Flow estimators by name. A new estimator is one module and one line here; there is no silent second choice."""

from __future__ import annotations

from motive_fo.config import FlowConfig
from motive_fo.errors import ConfigError
from motive_fo.flow.base import FlowEstimator


def build_estimator(config: FlowConfig) -> FlowEstimator:
    """The estimator a configuration names.

    Raises:
        ConfigError: unknown name, or a reading the estimator does not give.
    """
    from motive_fo.flow.chain import PairwiseFlow
    from motive_fo.flow.dis import DISFlow
    from motive_fo.flow.farneback import FarnebackFlow

    makers: dict[str, type[PairwiseFlow]] = {"dis": DISFlow, "farneback": FarnebackFlow}
    if config.estimator not in makers:
        raise ConfigError(f"unknown flow estimator {config.estimator!r}: choose one of {', '.join(sorted(makers))}")
    estimator = makers[config.estimator](config.anchor)
    if config.reading not in estimator.readings:
        given = " or ".join(sorted(estimator.readings))
        raise ConfigError(f"flow estimator {config.estimator!r} gives the reading {given}, not {config.reading}")
    return estimator
