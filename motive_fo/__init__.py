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
        EngineConfig,
        ExportConfig,
        FlowConfig,
        InfluenceConfig,
        MotionConfig,
        RunConfig,
        SelectionConfig,
    )
    from motive_fo.dataset.adoption import adopt_store
    from motive_fo.dataset.attribution_quality import estimate_trial, evaluate_attribution
    from motive_fo.dataset.baselines import baselines
    from motive_fo.dataset.curation import curate, what_if
    from motive_fo.dataset.embeddings import map_sketches, similar_gradients
    from motive_fo.dataset.estimate import estimate
    from motive_fo.dataset.evaluation import evaluate, land_vbench, write_ab_page
    from motive_fo.dataset.export import export, survival
    from motive_fo.dataset.imports import import_clips
    from motive_fo.dataset.jobs import cancel_job, list_jobs, start_job
    from motive_fo.dataset.motion_report import show_motion, write_motion_page
    from motive_fo.dataset.overlays import delete_overlays, write_overlays
    from motive_fo.dataset.queries import add_queries, group_queries, list_queries, mark_queries, remove_queries
    from motive_fo.dataset.replay import replay_run
    from motive_fo.dataset.run_report import write_report
    from motive_fo.dataset.score_table import write_scores
    from motive_fo.dataset.steps import (
        compute_gradients,
        compute_motion,
        delete_run,
        group_norms,
        query_scores,
        score_influence,
        similar_motion,
    )
    from motive_fo.dataset.training import finetune, generate
    from motive_fo.dataset.whole import run
    from motive_fo.dataset.workspace import save_workspace
    from motive_fo.evaluation.settings import EvaluationConfig
    from motive_fo.evaluation.votes import count_votes
    from motive_fo.quality.settings import AttributionQualityConfig
    from motive_fo.training.settings import FinetuneConfig, GenerateConfig

_HOMES = {
    "import_clips": "motive_fo.dataset.imports",
    "compute_motion": "motive_fo.dataset.steps",
    "compute_gradients": "motive_fo.dataset.steps",
    "score_influence": "motive_fo.dataset.steps",
    "curate": "motive_fo.dataset.curation",
    "what_if": "motive_fo.dataset.curation",
    "add_queries": "motive_fo.dataset.queries",
    "group_queries": "motive_fo.dataset.queries",
    "list_queries": "motive_fo.dataset.queries",
    "mark_queries": "motive_fo.dataset.queries",
    "remove_queries": "motive_fo.dataset.queries",
    "export": "motive_fo.dataset.export",
    "survival": "motive_fo.dataset.export",
    "baselines": "motive_fo.dataset.baselines",
    "finetune": "motive_fo.dataset.training",
    "generate": "motive_fo.dataset.training",
    "evaluate": "motive_fo.dataset.evaluation",
    "evaluate_attribution": "motive_fo.dataset.attribution_quality",
    "write_ab_page": "motive_fo.dataset.evaluation",
    "count_votes": "motive_fo.evaluation.votes",
    "land_vbench": "motive_fo.dataset.evaluation",
    "group_norms": "motive_fo.dataset.steps",
    "query_scores": "motive_fo.dataset.steps",
    "similar_motion": "motive_fo.dataset.steps",
    "adopt_store": "motive_fo.dataset.adoption",
    "delete_run": "motive_fo.dataset.steps",
    "run": "motive_fo.dataset.whole",
    "estimate": "motive_fo.dataset.estimate",
    "estimate_trial": "motive_fo.dataset.attribution_quality",
    "show_motion": "motive_fo.dataset.motion_report",
    "write_motion_page": "motive_fo.dataset.motion_report",
    "replay_run": "motive_fo.dataset.replay",
    "write_report": "motive_fo.dataset.run_report",
    "write_scores": "motive_fo.dataset.score_table",
    "cancel_job": "motive_fo.dataset.jobs",
    "start_job": "motive_fo.dataset.jobs",
    "list_jobs": "motive_fo.dataset.jobs",
    "write_overlays": "motive_fo.dataset.overlays",
    "delete_overlays": "motive_fo.dataset.overlays",
    "map_sketches": "motive_fo.dataset.embeddings",
    "similar_gradients": "motive_fo.dataset.embeddings",
    "save_workspace": "motive_fo.dataset.workspace",
    "ClipConfig": "motive_fo.config",
    "FlowConfig": "motive_fo.config",
    "MotionConfig": "motive_fo.config",
    "AttributionConfig": "motive_fo.config",
    "EngineConfig": "motive_fo.config",
    "InfluenceConfig": "motive_fo.config",
    "SelectionConfig": "motive_fo.config",
    "ExportConfig": "motive_fo.config",
    "RunConfig": "motive_fo.config",
    "AttributionQualityConfig": "motive_fo.quality.settings",
    "EvaluationConfig": "motive_fo.evaluation.settings",
    "FinetuneConfig": "motive_fo.training.settings",
    "GenerateConfig": "motive_fo.training.settings",
}

__all__ = [
    "AttributionConfig",
    "AttributionQualityConfig",
    "ClipConfig",
    "EngineConfig",
    "EvaluationConfig",
    "ExportConfig",
    "FinetuneConfig",
    "FlowConfig",
    "GenerateConfig",
    "InfluenceConfig",
    "MotionConfig",
    "RunConfig",
    "SelectionConfig",
    "add_queries",
    "adopt_store",
    "baselines",
    "cancel_job",
    "compute_gradients",
    "compute_motion",
    "count_votes",
    "curate",
    "delete_overlays",
    "delete_run",
    "estimate",
    "estimate_trial",
    "evaluate",
    "evaluate_attribution",
    "export",
    "finetune",
    "generate",
    "group_norms",
    "group_queries",
    "import_clips",
    "land_vbench",
    "list_jobs",
    "list_queries",
    "map_sketches",
    "mark_queries",
    "query_scores",
    "remove_queries",
    "replay_run",
    "run",
    "save_workspace",
    "score_influence",
    "show_motion",
    "similar_gradients",
    "similar_motion",
    "start_job",
    "survival",
    "what_if",
    "write_ab_page",
    "write_motion_page",
    "write_overlays",
    "write_report",
    "write_scores",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
