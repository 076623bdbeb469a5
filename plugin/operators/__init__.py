"""The operators: forms over the public functions of ``motive_fo``."""

from __future__ import annotations

from .compute import ComputeGradients, ComputeMotion, ImportClips, ScoreInfluence
from .curation import Baselines, Curate, Export, MarkQueries, Report
from .pictures import DeleteOverlays, MapSketches, OpenWorkspace, SortByGradients, WriteOverlays
from .quality import EvaluateAttribution
from .runs import AdoptStore, CancelJob, DeleteRun, ReplayRun, ShowFailed, ShowJobs, ShowRun

OPERATORS = (
    ImportClips,
    ComputeMotion,
    ComputeGradients,
    ScoreInfluence,
    Curate,
    MarkQueries,
    Report,
    Export,
    Baselines,
    EvaluateAttribution,
    ShowRun,
    ReplayRun,
    DeleteRun,
    AdoptStore,
    ShowFailed,
    ShowJobs,
    CancelJob,
    WriteOverlays,
    DeleteOverlays,
    MapSketches,
    SortByGradients,
    OpenWorkspace,
)
"""Every operator; ``fiftyone.yml`` lists the same."""
