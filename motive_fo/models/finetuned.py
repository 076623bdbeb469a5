"""Folders that ``motive finetune`` writes, as models: ``motive-model.json`` says of what. Light: no torch.

The embedded model's folder holds ``weights.safetensors``; one of diffusers holds ``transformer/`` and names its base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from motive_fo.errors import InputError
from motive_fo.models.diffusion.folder import is_hub_id

MARK: Final = "motive-model.json"
FORMAT: Final = "motive-fo model"
TINY_WEIGHTS: Final = "weights.safetensors"


def read_mark(folder: str | Path) -> dict[str, Any] | None:
    """What the folder says of itself, None where it is none of ours. Raises ``InputError`` for a damaged one."""
    path = Path(folder).expanduser() / MARK
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): fine-tune again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("base"), str):
        raise InputError(f"{path} is not what motive finetune writes: fine-tune again")
    return data


def settle_name(name: str) -> tuple[str, Path | None]:
    """A fine-tuned folder as the model it is made of: its base's name, and the weights of an embedded one.

    Other names come back as they are. A base is never code: only the embedded model, a folder or a hub repository.

    Raises:
        InputError: the folder is damaged or its base is gone.
    """
    mark = read_mark(name) if name != "tiny" else None
    if mark is None:
        return name, None
    folder, base = Path(name).expanduser(), str(mark["base"])
    if base == "tiny":
        return base, folder / TINY_WEIGHTS
    if not Path(base).is_dir() and not is_hub_id(base):
        raise InputError(f"{folder} was fine-tuned from {base}, which is not there: name both as BASE+{folder}")
    return f"{base}+{folder}", None
