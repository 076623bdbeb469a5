"""Motion-aware data curation for video generation, inside FiftyOne.

The public functions below are loaded when first used: importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from motive_fo.config import (
        AttributionConfig,
        ClipConfig,
        ExportConfig,
        FlowConfig,
        InfluenceConfig,
        MotionConfig,
        RunConfig,
        SelectionConfig,
    )
    from motive_fo.dataset.imports import import_clips
    from motive_fo.dataset.steps import (
        compute_gradients,
        compute_motion,
        curate,
        delete_run,
        export,
        query_scores,
        score_influence,
        similar_motion,
    )
    from motive_fo.dataset.whole import run

_HOMES = {
    "import_clips": "motive_fo.dataset.imports",
    "compute_motion": "motive_fo.dataset.steps",
    "compute_gradients": "motive_fo.dataset.steps",
    "score_influence": "motive_fo.dataset.steps",
    "curate": "motive_fo.dataset.steps",
    "export": "motive_fo.dataset.steps",
    "query_scores": "motive_fo.dataset.steps",
    "similar_motion": "motive_fo.dataset.steps",
    "delete_run": "motive_fo.dataset.steps",
    "run": "motive_fo.dataset.whole",
    "ClipConfig": "motive_fo.config",
    "FlowConfig": "motive_fo.config",
    "MotionConfig": "motive_fo.config",
    "AttributionConfig": "motive_fo.config",
    "InfluenceConfig": "motive_fo.config",
    "SelectionConfig": "motive_fo.config",
    "ExportConfig": "motive_fo.config",
    "RunConfig": "motive_fo.config",
}

__all__ = [
    "AttributionConfig",
    "ClipConfig",
    "ExportConfig",
    "FlowConfig",
    "InfluenceConfig",
    "MotionConfig",
    "RunConfig",
    "SelectionConfig",
    "compute_gradients",
    "compute_motion",
    "curate",
    "delete_run",
    "export",
    "import_clips",
    "query_scores",
    "run",
    "score_influence",
    "similar_motion",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
