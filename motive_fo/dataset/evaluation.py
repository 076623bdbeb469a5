"""Evaluation of clips by the name of where they are, and VBench's results on the samples of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motive_fo.config import FlowConfig, merge
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone
from motive_fo.dataset.sources import clip_sets
from motive_fo.errors import InputError
from motive_fo.evaluation import ab
from motive_fo.evaluation.compare import EvaluationReport, evaluate_sets
from motive_fo.evaluation.settings import EvaluationConfig
from motive_fo.evaluation.vbench import read_results
from motive_fo.exporters.folder import read_manifest
from motive_fo.progress import Progress, silent

_DESCRIPTION = "results of VBench"


def evaluate(
    sources: Sequence[Any],
    *,
    config: EvaluationConfig | Mapping[str, Any] | None = None,
    flow: FlowConfig | Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Measure the motion of one or more sets of clips, and compare the first set with each of the others.

    Args:
        sources: folders, listings, ``DATASET:VIEW``, ``dataset:NAME``, or views of FiftyOne's.
        config: what is measured of each clip and how sure it is, whole or only what should change.
        flow: motion estimator, whole or only what should change; the reading is always ``step``.

    Raises:
        MotiveError: a source that is not there, or none of whose clips can be measured; wrong settings.
    """
    if isinstance(sources, str | Path):
        raise InputError(f"name the sources in a list: [{str(sources)!r}, ...]")
    settings: EvaluationConfig = merge(EvaluationConfig(), config, "evaluation")
    motion: FlowConfig = merge(FlowConfig(), flow, "flow")
    return evaluate_sets(clip_sets(sources), config=settings, flow=motion, progress=progress)


def write_ab_page(
    first: Any, second: Any, path: str | Path, *, embed: bool = False, pairs: int | None = None, seed: int = 0
) -> Path:
    """Write a page on which people judge blind which of two sets moves better. See ``evaluation.ab.write_ab_page``.

    Args:
        first, second: sources as for ``evaluate``; their clips must pair up.
    """
    one, other = clip_sets([first, second])
    return ab.write_ab_page(one, other, path, embed=embed, pairs=pairs, seed=seed)


@dataclass(frozen=True)
class LandedResults:
    """VBench's results on samples.

    Attributes:
        field: group of the fields.
        samples: dimension -> samples that got a value.
        strangers: videos of the file that are no sample of the dataset.
    """

    field: str
    samples: Mapping[str, int]
    strangers: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def land_vbench(samples: Any, file: str | Path, field: str = "vbench") -> LandedResults:
    """Write VBench's results into fields ``FIELD.DIMENSION`` of the samples they are about.

    A result belongs to the sample whose file it is, also by way of an export (its manifest says of which clip a file
    is), else to the one sample whose file has its name.

    Raises:
        InputError: the file is none of VBench's, none of its videos is in the dataset, or the field is something else.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    results = read_results(file)
    if not field.isidentifier():
        raise InputError(f"{field!r} cannot name a field: use letters, digits and underscores, a letter first")
    find = _Finder(samples)
    values: dict[str, dict[str, float]] = {}
    strangers: dict[str, None] = {}
    for name, dimension in results.items():
        for video, value in dimension.results.items():
            sample_id = find(Path(video))
            if sample_id is None:
                strangers[video] = None
            else:
                values.setdefault(name, {})[sample_id] = value
    if not values:
        raise InputError(
            f"none of the {len(strangers)} videos of {file} is a sample of {dataset.name!r}, such as "
            f"{next(iter(strangers), '-')}: import the folder that VBench judged, or name its dataset"
        )
    _declare(dataset, field, values)
    for name, by_sample in values.items():
        dataset.set_values(f"{field}.{name}", by_sample, key_field="id", progress=False)
    return LandedResults(field, {name: len(found) for name, found in values.items()}, list(strangers))


class _Finder:
    """Sample of a video file that VBench saw."""

    def __init__(self, samples: Any) -> None:
        chosen = records_of(samples)
        self._by_clip = chosen.sample_ids
        self._by_path = {record.path.resolve(): chosen.sample_ids[record.id] for record in chosen.records}
        counts = Counter(record.path.name for record in chosen.records)
        self._by_name = {r.path.name: chosen.sample_ids[r.id] for r in chosen.records if counts[r.path.name] == 1}
        self._exports: dict[Path, dict[str, str]] = {}

    def __call__(self, video: Path) -> str | None:
        for folder in list(video.absolute().parents)[:2]:
            clip_id = self._files(folder).get(video.absolute().relative_to(folder).as_posix())
            if clip_id is not None:
                return self._by_clip.get(clip_id)
        return self._by_path.get(video.resolve()) or self._by_name.get(video.name)

    def _files(self, folder: Path) -> dict[str, str]:
        if folder not in self._exports:
            manifest = read_manifest(folder)
            self._exports[folder] = {clip["file"]: clip["id"] for clip in manifest["clips"]} if manifest else {}
        return self._exports[folder]


def _declare(dataset: Any, field: str, names: Mapping[str, Any]) -> None:
    fo = fiftyone()
    schema = dataset.get_field_schema()
    if field in schema and schema[field].description != _DESCRIPTION:
        raise InputError(f"{field!r} of dataset {dataset.name!r} is a field already: name another with --field")
    dataset.add_sample_field(
        field,
        fo.EmbeddedDocumentField,
        embedded_doc_type=fo.DynamicEmbeddedDocument,
        description=_DESCRIPTION,
    )
    for name in names:
        dataset.add_sample_field(f"{field}.{name}", fo.FloatField, description=f"VBench's {name} of the clip")
