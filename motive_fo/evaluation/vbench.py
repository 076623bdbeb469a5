"""VBench's result files: ``NAME_eval_results.json`` = ``{dimension: [mean, [{video_path, video_results}, ...]]}``.

What VBench itself judges (subject and background consistency, aesthetics) is read; what is measured here by its rules
can be written, for tools that read its files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from motive_fo.errors import InputError
from motive_fo.evaluation.compare import MeasuredSet

SUFFIX: Final = "_eval_results.json"
#: our metrics that VBench knows: its dimension -> ours.
_DIMENSIONS: Final = {"dynamic_degree": "dynamic", "motion_smoothness": "motion_smoothness"}


@dataclass(frozen=True)
class Dimension:
    """One dimension of a result file.

    Attributes:
        mean: over all videos, as VBench says it.
        results: path of a video, as VBench says it -> its result; a yes or no is 1 or 0.
    """

    mean: float
    results: Mapping[str, float]


def read_results(file: str | Path) -> dict[str, Dimension]:
    """A result file, dimension by dimension.

    Raises:
        InputError: no such file, or not VBench's format.
    """
    path = Path(file).expanduser()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; VBench writes NAME{SUFFIX}") from None
    except ValueError:
        raise InputError(f"{path} is not JSON: give the file NAME{SUFFIX} that VBench writes") from None
    if not isinstance(data, dict) or not data:
        raise InputError(f"{path} is no result of VBench: it should hold {{dimension: [mean, [results]]}}")
    return {str(name): _dimension(path, str(name), found) for name, found in data.items()}


def write_results(measured: MeasuredSet, file: str | Path) -> Path:
    """Write what was measured of a set by VBench's rules, in its format.

    Motion smoothness rests on another interpolation than VBench's: such files compare with each other.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(file).expanduser().absolute()
    data = {}
    for dimension, metric in _DIMENSIONS.items():
        rows = [
            {"video_path": str(clip.path), "video_results": getattr(measured.motion[clip.name], metric)}
            for clip in measured.clips.clips
            if clip.name in measured.motion and getattr(measured.motion[clip.name], metric) is not None
        ]
        if rows:
            data[dimension] = [sum(float(row["video_results"]) for row in rows) / len(rows), rows]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from None
    return path


def _dimension(path: Path, name: str, found: Any) -> Dimension:
    wrong = InputError(f"{path}: {name} is not [mean, [{{video_path, video_results}}, ...]] as VBench writes it")
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], list):
        raise wrong
    results = {}
    for row in found[1]:
        if not isinstance(row, dict) or not isinstance(row.get("video_path"), str):
            raise wrong
        results[row["video_path"]] = _number(row.get("video_results"), wrong)
    return Dimension(_number(found[0], wrong), results)


def _number(value: Any, wrong: InputError) -> float:
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise wrong
    return float(value)
