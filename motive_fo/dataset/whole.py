"""The whole way in one call: import, gradients (and motion), influence, selection, export."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from motive_fo.config import RunConfig, load
from motive_fo.dataset.connect import load_dataset
from motive_fo.dataset.curation import CurateReport, curate
from motive_fo.dataset.export import export
from motive_fo.dataset.imports import ImportReport, import_clips
from motive_fo.dataset.run_record import load_run
from motive_fo.dataset.steps import compute_gradients, score_influence
from motive_fo.exporters.base import ExportReport
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent


@dataclass
class RunReport:
    """What a whole run did: the reports of its steps, and seconds in all."""

    dataset: str
    run: str
    imports: list[ImportReport] = field(default_factory=list)
    gradients: dict[str, StepReport] = field(default_factory=dict)
    influence: StepReport | None = None
    curate: CurateReport | None = None
    export: ExportReport | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "dataset": self.dataset,
            "run": self.run,
            "imports": [report.as_dict() for report in self.imports],
            "gradients": {role: report.as_dict() for role, report in self.gradients.items()},
            "influence": self.influence and self.influence.as_dict(),
            "curate": self.curate and self.curate.as_dict(),
            "export": self.export and self.export.as_dict(),
            "seconds": round(self.seconds, 3),
        }


def run(config: RunConfig | str | Path, *, retry_failed: bool = False, progress: Progress = silent) -> RunReport:
    """Do everything a configuration asks for. The same call continues an interrupted run and renews its export.

    Args:
        config: settings, or the path of a YAML file with them.

    Raises:
        MotiveError: wrong settings, no such files. A clip's failure is recorded on its sample instead.
    """
    if not isinstance(config, RunConfig):
        config = load(config)
    report = RunReport(config.dataset, config.run)
    start = time.perf_counter()
    for source, role in ((config.videos, "train"), (config.queries, "query")):
        if source is not None:
            report.imports.append(import_clips(source, config.dataset, role=role, progress=progress))
    dataset = load_dataset(config.dataset)
    report.gradients = compute_gradients(
        dataset,
        config.run,
        train=config.train,
        query=config.query,
        clip=config.clip,
        flow=config.flow,
        motion=config.motion,
        attribution=config.attribution,
        engine=config.engine,
        store=config.store,
        preset=config.preset,
        retry_failed=retry_failed,
        progress=progress,
    )
    report.influence = score_influence(dataset, config.run, influence=config.influence, progress=progress)
    report.curate = curate(dataset, config.run, selection=config.selection, progress=progress)
    if config.export_to is not None:
        folder = Path(config.export_to).expanduser().absolute()
        record = load_run(dataset, config.run)
        ours = str(folder) in record.exports and not record.is_copy
        settings = replace(config.export, overwrite=config.export.overwrite or ours)
        report.export = export(dataset, folder, config.run, config=settings, progress=progress)
    report.seconds = time.perf_counter() - start
    return report
