"""A pipeline as diffusers saves it: a folder with ``model_index.json`` and one folder for each part. Light: no torch.

Weights are read from safetensors only. A pickle can run whatever its author wrote when it is loaded; it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from motive_fo.errors import ConfigError, InputError, MissingDependencyError

INDEX: Final = "model_index.json"
#: what is taken from a hub repository: settings alone, or tokenizers and the default weights of every part too.
_SETTINGS: Final = ("model_index.json", "vae/config.json", "transformer*/config.json", "scheduler/*.json")
_ALL: Final = ("*.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model")
_VARIANTS: Final = ("*/*.fp16.*", "*/*.bf16.*", "*/*.non_ema.*")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LIBRARIES: Final = ("diffusers", "transformers")


@dataclass(frozen=True)
class ModelFolder:
    """A pipeline on this machine.

    Attributes:
        name: as the user named it.
        root: the pipeline's folder.
        over: part -> folder that is used instead of the pipeline's own, such as a fine-tuned transformer.
    """

    name: str
    root: Path
    over: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def index(self) -> dict[str, Any]:
        """``model_index.json``: the pipeline's class, its settings, and the classes of its parts."""
        return _json(self.root / INDEX)

    @property
    def pipeline(self) -> str:
        """Name of the pipeline's class."""
        return str(self.index.get("_class_name", ""))

    def has(self, part: str) -> bool:
        """Whether the pipeline has this part."""
        entry = self.index.get(part)
        return isinstance(entry, list) and entry[0] is not None

    def path(self, part: str) -> Path:
        """The folder of a part."""
        return self.over.get(part, self.root / part)

    def class_of(self, part: str) -> tuple[str, str]:
        """Library and class of a part. Raises ``InputError`` for code that is neither diffusers' nor transformers'."""
        library, name = self.index[part]
        if library not in _LIBRARIES:
            raise InputError(
                f"{self.root / INDEX} wants {part} from {library!r}: only classes of {' and '.join(_LIBRARIES)} are "
                "loaded, never code that comes with weights"
            )
        return str(library), str(name)

    def config(self, part: str) -> dict[str, Any]:
        """Settings of a part, as its ``config.json`` (a scheduler's ``scheduler_config.json``) says."""
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        return _json(self.path(part) / name)

    def weights(self, part: str) -> list[Path]:
        """The files of a part's weights, in name order.

        Raises:
            InputError: there are none, some are missing, or there are only pickles.
        """
        folder = self.path(part)
        for stem in ("diffusion_pytorch_model", "model"):
            index = folder / f"{stem}.safetensors.index.json"
            if index.is_file():
                files = sorted({folder / str(name) for name in _json(index).get("weight_map", {}).values()})
                absent = [file.name for file in files if not file.is_file()]
                if absent:
                    raise InputError(f"{folder} lacks {absent[0]} of its {len(files)} files: download it again")
                return files
            if (folder / f"{stem}.safetensors").is_file():
                return [folder / f"{stem}.safetensors"]
        pickles = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(kind))
        if pickles:
            raise InputError(
                f"{folder} has its weights only as pickle ({pickles[0]}), which runs code when it is loaded: save the "
                "pipeline again with save_pretrained(..., safe_serialization=True)"
            )
        raise InputError(f"{folder} holds no weights (.safetensors): download or save the model again")


def is_hub_id(name: str) -> bool:
    """Whether a name could be a repository of the Hugging Face hub: OWNER/NAME."""
    return _HUB_ID.fullmatch(name) is not None


def find_folder(name: str, parts: Iterable[str] = ()) -> ModelFolder | None:
    """The pipeline a name stands for, None where it is no folder and could not be a hub repository.

    Args:
        name: a folder, ``OWNER/NAME`` on the hub, or either with ``+FOLDER`` for a transformer of one's own.
        parts: whose weights must be there; none for the settings alone. What the hub's cache lacks is downloaded.

    Raises:
        InputError: the folder is no pipeline, or the repository is not on this machine and cannot be fetched.
    """
    wanted = list(parts)
    if not Path(name).expanduser().is_dir() and "+" in name:
        base, _, over = name.rpartition("+")
        found = _root(base, wanted)
        if found is None:
            return None
        return _laid_over(name, found, Path(over).expanduser())
    root = _root(name, wanted)
    return None if root is None else ModelFolder(name, root)


def absolute_name(name: str, base: Path | None = None) -> str:
    """A model's name with the folders in it as absolute paths, so that it means the same from another folder.

    Args:
        base: what relative paths are relative to; the working folder where open.
    """
    whole = _absolute(name, base)
    if whole != name or "+" not in name:
        return whole
    return "+".join(_absolute(piece, base) for piece in name.rpartition("+")[::2])


def _absolute(name: str, base: Path | None) -> str:
    folder = (base or Path()) / Path(name).expanduser()
    return str(folder.absolute()) if name != "tiny" and folder.is_dir() else name


def _root(name: str, parts: list[str]) -> Path | None:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            part = (folder / "config.json").is_file()
            hint = f"name it after its base model, BASE+{name}" if part else "save or download the whole pipeline"
            raise InputError(f"{folder} is no pipeline of diffusers, it has no {INDEX}: {hint}")
        return folder
    return _from_hub(name, parts) if is_hub_id(name) else None


def _laid_over(name: str, root: Path, over: Path) -> ModelFolder:
    base = ModelFolder(name, root)
    networks = [part for part in ("transformer", "transformer_2") if base.has(part)]
    if not over.is_dir():
        raise InputError(f"there is no folder {over}: after the + comes the folder of a fine-tuned transformer")
    inside = {part: over / part for part in networks if (over / part / "config.json").is_file()}
    if not inside and (over / "config.json").is_file():
        if len(networks) > 1:
            raise ConfigError(
                f"{root} has two transformers: lay {over} out as transformer/ and transformer_2/, or the one of them "
                "that was fine-tuned"
            )
        inside = {"transformer": over}
    if not inside:
        raise InputError(f"{over} holds no transformer (config.json and .safetensors): save it with save_pretrained")
    return ModelFolder(name, root, inside)


def _from_hub(repo: str, parts: list[str]) -> Path:
    """The repository's folder in the hub's cache; what is missing of it is downloaded."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError(
            "models of the Hugging Face hub need huggingface_hub: pip install 'motive-fo[diffusers]'"
        ) from error
    patterns = list(_ALL if parts else _SETTINGS)
    reason = "the hub has no such parts of it"
    # the cache first: what is whole there needs no network
    for more in ({"local_files_only": True}, {"allow_patterns": patterns, "ignore_patterns": list(_VARIANTS)}):
        try:
            root = Path(snapshot_download(repo, **more))
        except Exception as error:  # no network, no such repository, no permission, no space
            lines = str(error).strip().splitlines()
            reason = lines[0][:160].rstrip(". ") if lines else type(error).__name__
        else:
            if _is_complete(ModelFolder(repo, root), parts):
                return root
    raise InputError(
        f"model {repo!r} is no folder here, not whole in the Hugging Face cache, and cannot be fetched ({reason}): "
        f"run 'hf download {repo}' where there is a network, or give the folder of the pipeline; the name of a "
        "repository for diffusers mostly ends in -Diffusers"
    )


def _is_complete(folder: ModelFolder, parts: list[str]) -> bool:
    try:
        for part in filter(folder.has, folder.index):
            if part.startswith(("transformer", "vae", "scheduler")):
                folder.config(part)
            elif parts and not folder.path(part).is_dir():
                return False
        for part in parts:
            folder.weights(part)
    except InputError:
        return False
    return True


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; download or save the model again") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{path} is not JSON: download or save the model again") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} is not a list of settings: download or save the model again")
    return data
