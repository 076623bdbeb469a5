"""The operators: forms over the public functions of ``motive_fo``."""

from __future__ import annotations

from .compute import ComputeGradients, ComputeMotion, ImportClips, ScoreInfluence
from .curation import Baselines, Curate, Export, MarkQueries, Report
from .pictures import DeleteOverlays, MapSketches, OpenWorkspace, SortByGradients, WriteOverlays
from .runs import CancelJob, DeleteRun, ShowJobs, ShowRun, StepResult

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
    ShowRun,
    DeleteRun,
    StepResult,
    ShowJobs,
    CancelJob,
    WriteOverlays,
    DeleteOverlays,
    MapSketches,
    SortByGradients,
    OpenWorkspace,
)
"""Every operator; ``fiftyone.yml`` lists the same."""
