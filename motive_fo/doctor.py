"""Is this machine ready? Each check says ok, warn or fail in one line, with the way out."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from motive_fo.errors import CLIP_CODES, ClipError, InputError, MotiveError

if TYPE_CHECKING:
    from motive_fo.config import AttributionConfig, ClipConfig

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    text: str


def examine(
    dataset: str | None = None,
    run: str | None = None,
    *,
    attribution: AttributionConfig | None = None,
    clip: ClipConfig | None = None,
    video: str | Path | None = None,
) -> list[Finding]:
    """Check environment, decoders, model, database and stores.

    Args:
        dataset: also check the runs of this dataset: store, dataset and record by themselves and against each other.
        run: only this run of it.
        attribution: also load this model and compare the sketches of clips alone, repeated, in another order and in
            float32; see ``motive_fo.pipeline.numerics``.
        clip: clip specification for that; the model's own where open.
        video: a real clip for that; rendered ones where open.
    """
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("torch", _torch),
        ("decoders", _decoders),
        ("flow", _flow),
        ("model", _model),
        ("projection", _projection),
        ("data folder", _data_folder),
        ("database", _database),
        ("stores", _orphans),
        ("plugin", _plugin),
    ]
    if run is not None and dataset is None:
        raise InputError("--run needs --dataset: a run belongs to a dataset")
    if dataset is not None:
        checks.append(("stores", lambda: _stores(dataset, run)))
    if attribution is not None:
        chosen = attribution
        checks.append((f"model {chosen.model}", lambda: _numerics(chosen, clip, video)))
    findings: list[Finding] = []
    for subject, check in checks:
        try:
            findings += check()
        except Exception as error:  # a broken installation must not stop the doctor
            findings.append(Finding("fail", subject, _told(error)))
    return findings


def _told(error: Exception) -> str:
    """What happened and, as far as it is known, the way out; in one line."""
    if isinstance(error, ClipError):
        return f"{error.message}. {CLIP_CODES[error.code][1]}"
    return " ".join(str(error).split()) if isinstance(error, MotiveError) else f"{type(error).__name__}: {error}"


def _python() -> list[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    return [Finding("ok", "python", found)]


def _packages() -> list[Finding]:
    names = ("fiftyone", "torch", "zarr", "numpy", "av", "opencv-python-headless", "safetensors", "click")
    missing, present = [], []
    for name in names:
        try:
            present.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return [Finding("fail", "packages", f"missing: {', '.join(missing)}; pip install motive-fo installs them")]
    return [Finding("ok", "packages", ", ".join(present))]


def _torch() -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        return [Finding("ok", "torch", f"CPU only, {torch.get_num_threads()} threads; enough for the tiny model")]
    findings = [Finding("ok", "torch", f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")]
    from motive_fo.attribution.hadamard import cuda_kernel, transform, transform_reference

    if cuda_kernel() is None:
        text = "not installed; the torch transform is used (pip install motive-fo[cuda] for a faster one)"
        return [*findings, Finding("warn", "fast-hadamard-transform", text)]
    x = torch.randn(4, 4096, device="cuda")
    worst = float((transform(x) - transform_reference(x)).abs().max() / transform_reference(x).abs().max())
    level: Level = "ok" if worst < 1e-5 else "fail"
    return [*findings, Finding(level, "fast-hadamard-transform", f"agrees with torch to {worst:.1e}")]


def _decoders() -> list[Finding]:
    import numpy as np

    from motive_fo.clips.decode import decode
    from motive_fo.clips.spec import ClipSpec
    from motive_fo.synthetic.corpus import write_video

    findings = []
    frames = np.zeros((24, 64, 64, 3), np.uint8)
    frames[:, :, 32:] = 255
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mp4"
        write_video(path, frames, fps=24)
        clip = decode(path, ClipSpec(0, 8, 5, 32, 32), "pyav")
        right = float(clip.frames_THW3[:, :, 16:].mean() - clip.frames_THW3[:, :, :16].mean()) > 200
        findings.append(Finding("ok" if right else "fail", "decoder", f"{clip.decoder} reads H.264"))
        try:
            fast = decode(path, ClipSpec(0, 8, 5, 32, 32), "decord")
            findings.append(Finding("ok", "decoder", f"{fast.decoder} reads H.264"))
        except Exception as error:
            findings.append(Finding("warn", "decoder", f"decord cannot be used, PyAV reads everything ({error})"))
    if shutil.which("ffmpeg") is None:
        text = "not on the path; only FiftyOne's own frame sampling and re-encoding need it (apt install ffmpeg)"
        findings.append(Finding("warn", "ffmpeg", text))
    return findings


def _flow() -> list[Finding]:
    from motive_fo.config import FlowConfig
    from motive_fo.errors import InputError
    from motive_fo.flow.alltracker.weights import NAMES, find_weights
    from motive_fo.flow.registry import build_estimator, settle_estimator

    configs = (FlowConfig(estimator="dis"), FlowConfig(estimator="farneback"))
    names = [build_estimator(config).identity("step")["estimator"] for config in configs]
    findings = [Finding("ok", "flow", f"{' and '.join(names)} are ready and need no weights")]
    for variant, name in NAMES.items():
        try:
            found = find_weights(variant, download=False)
        except InputError as error:
            findings.append(Finding("warn", "flow", f"{name}: {error}"))
        else:
            findings.append(Finding("ok" if found.official else "warn", "flow", f"{name}: {found}"))
    chosen = settle_estimator(FlowConfig()).estimator
    return [*findings, Finding("ok", "flow", f"a new run takes {chosen} where nothing else is asked for")]


def _model() -> list[Finding]:
    from motive_fo.attribution.parameters import attributed_parameters
    from motive_fo.models.registry import load_model

    model = load_model("tiny", "cpu")
    count = sum(parameter.numel() for _, parameter in attributed_parameters(model.network))
    return [Finding("ok", "model", f"tiny is ready, {count:,} attributed parameters; a toy, for the demo")]


def _projection() -> list[Finding]:
    import torch

    from motive_fo.attribution import projection
    from motive_fo.attribution.probe import device_change, probe_projection
    from motive_fo.config import AttributionConfig

    config = AttributionConfig()
    made = projection.build_projection(
        config.projection, dimension=config.dimension, block=config.block, seed=config.seed, parameters=0
    )
    found = probe_projection(made)
    text = (
        f"{config.projection}: squared lengths {found.length:.3f} times what they were (1 within "
        f"{found.allowed_length:.3f}), cosines moved by at most {found.cosine:.3f} ({found.allowed_cosine:.3f})"
    )
    if not found.sound:
        return [Finding("fail", "projection", f"{text}: do not trust sketches of this machine; reinstall torch")]
    if torch.cuda.is_available() and (change := device_change(made, "cuda")) > 1e-5:
        text = f"the GPU's sketches differ from the CPU's by {change:.1e} of their length: do not trust them"
        return [Finding("fail", "projection", text)]
    return [Finding("ok", "projection", text)]


def _numerics(attribution: AttributionConfig, clip: ClipConfig | None, video: str | Path | None) -> list[Finding]:
    from motive_fo.clips.decode import decode
    from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
    from motive_fo.models.registry import model_card
    from motive_fo.pipeline.motion import MotionSettings
    from motive_fo.pipeline.numerics import check_numerics

    settings = MotionSettings.build(
        clip or ClipConfig(), FlowConfig(estimator="dis"), MotionConfig(), model_card(attribution.model)
    )
    frames = [] if video is None else [decode(Path(video), settings.spec).frames_THW3]
    checks = check_numerics(settings, attribution, frames)
    return [Finding(check.verdict, f"model {attribution.model}", f"{check.subject}: {check.text}") for check in checks]


def _data_folder() -> list[Finding]:
    from motive_fo.dataset.run_record import data_folder

    folder = data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return [
            Finding(
                "fail", "data folder", f"cannot write to {folder} ({error.strerror}); set MOTIVE_DATA to another one"
            )
        ]
    free = shutil.disk_usage(folder).free / 2**30
    level: Level = "ok" if free > 1 else "warn"
    return [Finding(level, "data folder", f"{folder}, {free:.0f} GiB free")]


def _database() -> list[Finding]:
    from motive_fo.dataset.connect import fiftyone

    fo = fiftyone()
    return [Finding("ok", "database", f"FiftyOne {fo.__version__} is connected, {len(fo.list_datasets())} datasets")]


def _orphans() -> list[Finding]:
    from motive_fo.dataset.adoption import orphans

    found = [Finding("warn", "stores", str(orphan)) for orphan in orphans()]
    return found or [Finding("ok", "stores", "every store in the data folder belongs to a run")]


def _plugin() -> list[Finding]:
    from motive_fo.dataset.plugin import FOLDER, plugins_folder

    place = plugins_folder() / FOLDER
    if not (place / "fiftyone.yml").is_file():
        return [Finding("warn", "plugin", "not installed; motive plugin install (motive app does it by itself)")]
    return [Finding("ok", "plugin", str(place))]


def _stores(dataset: str, run: str | None) -> list[Finding]:
    from motive_fo.dataset.connect import load_dataset
    from motive_fo.dataset.integrity import check_run
    from motive_fo.dataset.run_record import list_runs

    findings = []
    target = load_dataset(dataset)
    for name in list_runs(target) if run is None else [run]:
        try:
            findings += [Finding(c.level, f"run {name}", f"{c.subject}: {c.text}") for c in check_run(target, name)]
        except MotiveError as error:
            findings.append(Finding("fail", f"run {name}", _told(error)))
    return findings or [Finding("ok", "stores", f"dataset {dataset!r} has no runs")]
