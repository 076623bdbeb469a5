"""A plain reference trainer: any model behind our protocol that can be saved, on clips as they were scored.

It is there to close the loop on one machine, and to be read; its steps are in ``training.loop``.

What a training of FOLDER keeps until it is complete lies in ``.FOLDER.motive-part`` beside it (``exporters.folder``);
FOLDER itself is complete or absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from motive_fo.clips.messages import Request
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.worker import DecodePool, decode_ahead
from motive_fo.config import plain
from motive_fo.errors import ClipError, ConfigError, InputError, MotiveError
from motive_fo.exporters.folder import Staging, staged, write_text
from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.models.diffusion.model import DiffusersModel
from motive_fo.models.finetuned import FORMAT, MARK, TINY_WEIGHTS, read_mark
from motive_fo.models.registry import load_model
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline.record import ClipRecord, version_of
from motive_fo.progress import Progress, silent
from motive_fo.store.identity import provenance
from motive_fo.training.loop import Examples, Kept, Trained, moved, require_trainable, train, trainable
from motive_fo.training.settings import FinetuneConfig

_STATE: Final = "state.pt"
#: share of the first and of the last steps whose mean loss is reported.
_TELLING: Final = 0.1


@dataclass(frozen=True)
class FinetuneReport:
    """A finished training.

    Attributes:
        folder: absolute path of the model: ``--model FOLDER``.
        clips: clips it was trained on.
        failed: clip id -> why it was left out.
        steps, passes: training steps, and how often they showed each clip.
        first_loss, last_loss: mean loss of the first and of the last tenth of the steps.
        seconds: time of the training steps.
        without_caption: of ``clips``, those that have none.
        resumed_at: step an earlier call had reached, 0 where there was none.
        unchanged: the folder held this very model already; nothing was done.
    """

    folder: str
    clips: int
    failed: Mapping[str, str]
    steps: int
    passes: float
    first_loss: float
    last_loss: float
    seconds: float
    without_caption: int = 0
    resumed_at: int = 0
    unchanged: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def finetune_clips(
    records: Sequence[ClipRecord],
    folder: str | Path,
    model: str = "tiny",
    *,
    clip: Mapping[str, Any] | None = None,
    config: FinetuneConfig | None = None,
    overwrite: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> FinetuneReport:
    """Fine-tune a model on clips and write it as a folder that is a model again.

    A clip that cannot be decoded or encoded is named in the report and left out. The same call again after a stop goes
    on from the last saved step, and after its end changes nothing.

    Args:
        records: the clips.
        folder: new, empty, or an earlier model of ours with ``overwrite``.
        model: the embedded one, a folder or hub repository of diffusers', or one that was fine-tuned before.
        clip: clip specification of an export; the model's default where open.
        config: how it is trained.
        about: more to say in the model's record, such as the source of the clips.

    Raises:
        MotiveError: no clip can be used, a model that cannot be saved, settings that do not fit, a folder in use.
    """
    config = config or FinetuneConfig()
    if config.lowest >= config.highest:
        raise ConfigError(f"there are no timesteps from {config.lowest:g} to {config.highest:g}: choose a wider range")
    root = Path(folder).expanduser().absolute()
    loaded = _loaded(model, config)
    spec = ClipSpec(**clip) if clip is not None else loaded.card.default_clip
    loaded.card.check(spec)
    wanted = _described(records, loaded, spec, config)
    old = _require_free(root, wanted, overwrite)
    if old is not None:
        return FinetuneReport(**{**old["training"], "folder": str(root), "unchanged": True})
    with staged(root) as staging:
        staging.encoded.mkdir(exist_ok=True)
        examples = _encoded(records, loaded, spec, config, progress)
        network, trained = trainable(model, loaded, config)
        state = staging.encoded / _STATE
        done = train(network, trained, examples, config, kept=Kept(state, wanted), progress=progress)
        report = _report(root, examples, done, config)
        staging.begin()
        base = _save(network, staging, config)
        mark = {
            "format": FORMAT,
            "base": base,
            "wanted": wanted,
            "training": report.as_dict(),
            "settings": plain(config),
            "clip": spec.identity(),
            "clips": examples.ids,
            "losses": [round(loss, 6) for loss in done.losses],
            "versions": provenance(config.device),
            **(about or {}),
        }
        write_text(staging.tree / MARK, json.dumps(mark, indent=1) + "\n")
        staging.commit()
    return report


def _loaded(model: str, config: FinetuneConfig) -> VideoModel:
    """The model that encodes, which is also the one that is trained where its numbers allow it."""
    precision = "auto" if model_is_embedded(model) else config.precision
    loaded = load_model(
        model,
        config.device,
        precision=precision,
        checkpointing=config.checkpointing,
        timesteps=(config.highest - 1e-3, config.lowest),
    )
    require_trainable(model, loaded, config)
    return loaded


def model_is_embedded(model: str) -> bool:
    """Whether a name is the embedded model or one fine-tuned from it."""
    mark = read_mark(model) if model != "tiny" else None
    return model == "tiny" or (mark is not None and mark["base"] == "tiny")


# --- the examples -----------------------------------------------------------------------------------------------------


def _encoded(
    records: Sequence[ClipRecord], model: VideoModel, spec: ClipSpec, config: FinetuneConfig, progress: Progress
) -> Examples:
    """Latents and conditions of all clips, in main memory."""
    if isinstance(model, StagedModel):
        model.make_room()
    examples = Examples()

    def request(record: ClipRecord) -> Request:
        return Request(record.path, ClipSpec(**{**spec.identity(), "start": spec.start + record.start}))

    progress("encode", 0, len(records))
    with DecodePool(seconds=config.time_limit) as pool:
        for done, (record, outcome) in enumerate(decode_ahead(records, pool, request), 1):
            if isinstance(outcome, ClipError):
                examples.failed[record.id] = f"{outcome.code}: {outcome.message}"
            else:
                try:
                    latent = model.encode_frames(outcome.frames_THW3).cpu()
                    for caption in (record.caption, ""):
                        if caption not in examples.conditions:
                            examples.conditions[caption] = moved(model.encode_caption(caption), "cpu")
                except MotiveError:
                    raise
                except Exception as error:  # a clip never stops the others, whatever an encoder raises on it
                    examples.failed[record.id] = f"encode_failed: {type(error).__name__}: {error}"
                else:
                    examples.ids.append(record.id)
                    examples.latents.append(latent)
                    examples.captions.append(record.caption)
            progress("encode", done, len(records))
    if not examples.ids:
        first = next(iter(examples.failed.items()), ("", "there are none"))
        raise InputError(f"none of the {len(records)} clips can be trained on: {first[0]} {first[1]}")
    if isinstance(model, StagedModel):
        model.leave_encoders()
    return examples


# --- the folder -------------------------------------------------------------------------------------------------------


def _described(records: Sequence[ClipRecord], model: VideoModel, spec: ClipSpec, config: FinetuneConfig) -> str:
    """Digest of everything the trained weights depend on."""
    settings = {key: value for key, value in plain(config).items() if key not in ("save_every", "device", "time_limit")}
    clips = [[record.id, record.start, version_of(record, with_caption=True).content] for record in records]
    parts = [settings, dict(model.identity()), spec.identity(), clips]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _require_free(root: Path, wanted: str, overwrite: bool) -> dict[str, Any] | None:
    """The record of this very model if the folder holds it. Raises ``InputError`` where the folder holds another."""
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise InputError(f"{root} is not a folder: choose another place")
    if not root.exists() or not any(root.iterdir()):
        return None
    mark = read_mark(root)
    if mark is None:
        raise InputError(f"{root} is not empty and holds no model of motive finetune: choose another folder")
    if mark.get("wanted") == wanted:
        return mark
    if not overwrite:
        raise InputError(f"{root} holds a model of other clips or settings: choose another folder, or --overwrite")
    return None


def _save(model: VideoModel, staging: Staging, config: FinetuneConfig) -> str:
    """Write the trained network as a model; returns the name of what it is laid over."""
    if isinstance(model, TinyModel):
        model.save(staging.tree / TINY_WEIGHTS)
        return "tiny"
    assert isinstance(model, DiffusersModel)
    network: Any = model.network
    part = model.network_part(model.folder, (config.highest - 1e-3,))
    if config.lora is not None:
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict
        from safetensors.torch import save_file

        added = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
        named = {f"{part}.{name}": value.detach().cpu().contiguous() for name, value in added.items()}
        save_file(named, staging.tree / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})
        network.fuse_lora()
        network.unload_lora()
    network.save_pretrained(staging.tree / part, safe_serialization=True)
    for other, place in model.folder.over.items():  # an expert that was fine-tuned before
        if other != part:
            shutil.copytree(place, staging.tree / other)
    return str(model.folder.root)


def _report(root: Path, examples: Examples, done: Trained, config: FinetuneConfig) -> FinetuneReport:
    telling = max(1, round(_TELLING * len(done.losses)))
    return FinetuneReport(
        folder=str(root),
        clips=len(examples.ids),
        failed=examples.failed,
        steps=config.steps,
        passes=config.steps * config.batch / len(examples.ids),
        first_loss=float(np.mean(done.losses[:telling])),
        last_loss=float(np.mean(done.losses[-telling:])),
        seconds=done.seconds,
        without_caption=sum(1 for caption in examples.captions if not caption.strip()),
        resumed_at=done.begun,
    )
