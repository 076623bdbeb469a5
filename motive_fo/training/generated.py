"""Clips that a model makes of prompts, so that models can be compared.

A folder of them is laid out as VBench reads it::

    videos/SLUG_DIGEST_sSEED.mp4   one clip for each prompt and seed; nothing else
    prompts.json                   file name -> prompt, for VBench
    metadata.jsonl                 file and prompt, for motive import
    generated.json                 the model, the settings, and prompt and seed of every clip

The noise of a clip depends on its prompt and seed alone: two models begin from the same noise, and another prompt in
the list changes no other clip.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from motive_fo.clips.spec import ClipSpec
from motive_fo.config import ClipConfig, plain
from motive_fo.errors import ConfigError, InputError, MotiveError
from motive_fo.exporters.media import encode, require_encoder
from motive_fo.models.base import VideoGenerator
from motive_fo.models.card import ModelCard
from motive_fo.models.registry import load_model
from motive_fo.progress import Progress, silent
from motive_fo.training.settings import GenerateConfig

RECORD: Final = "generated.json"
FORMAT: Final = "motive-fo generated"


@dataclass(frozen=True)
class GeneratedClip:
    """A clip of such a folder: file relative to it, prompt, seed."""

    file: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class GenerateReport:
    """What was made.

    Attributes:
        folder: absolute path.
        clips: all that are there now.
        made: how many of them were made by this call.
        failed: file -> why it could not be made.
    """

    folder: str
    clips: int
    made: int
    failed: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def read_generated(folder: Path) -> list[GeneratedClip] | None:
    """The clips of a folder that ``generate_clips`` wrote, None for other folders. Raises ``InputError``."""
    data = _record(folder)
    return None if data is None else [GeneratedClip(**clip) for clip in data["clips"]]


def read_prompts(source: Path) -> list[str]:
    """Prompts of a text file, one in each line, or of a tree of text files, one in each; each prompt once.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    files = sorted(source.rglob("*.txt")) if source.is_dir() else [source]
    prompts: list[str] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"{file} is not UTF-8 text") from None
        prompts += (
            [" ".join(text.split())] if source.is_dir() else [" ".join(line.split()) for line in text.split("\n")]
        )
    found = list(dict.fromkeys(filter(None, prompts)))
    if not found:
        raise InputError(f"{source} holds no prompts: write one in each line, or take the captions of clips")
    return found


def generate_clips(
    prompts: Sequence[str],
    folder: str | Path,
    model: str = "tiny",
    *,
    seeds: Sequence[int] = (0,),
    config: GenerateConfig | None = None,
    progress: Progress = silent,
) -> GenerateReport:
    """Make a clip of every prompt with every seed. What is there already is kept: a stopped call is gone on with.

    A clip that cannot be made is named in the report and stops nothing.

    Args:
        prompts: what to show; each once.
        folder: new, empty, or begun by a call with the same model and settings.
        model: name of the model, such as a folder that was fine-tuned.
        seeds: of the noise, one clip of every prompt for each.
        config: size, length and sampling.

    Raises:
        MotiveError: no such model, one that does not generate, a folder that holds something else, no prompts.
    """
    config = config or GenerateConfig()
    root = Path(folder).expanduser().absolute()
    wanted = [GeneratedClip(_file(prompt, seed), prompt, seed) for prompt in dict.fromkeys(prompts) for seed in seeds]
    if not wanted:
        raise InputError("there are no prompts, or no seeds, to generate clips of")
    loaded: Any = load_model(model, config.device, precision=config.precision)
    identity = dict(loaded.identity())
    if not isinstance(loaded, VideoGenerator):
        raise ConfigError(f"model {model!r} cannot generate clips: make them with another tool, into a folder")
    spec = _spec(config, loaded.card)
    about = {"model": identity, "settings": _kept(config), "fps": spec.fps}
    _begin(root, about, wanted)
    made, failed = 0, {}
    progress("generate", 0, len(wanted))
    for number, clip in enumerate(wanted, 1):
        target = root / clip.file
        if not target.exists():
            try:
                frames_THW3 = loaded.sample(clip.prompt, seed=noise_seed(clip.prompt, clip.seed), **_told(config, spec))
                part = root / f".{target.stem}.part.mp4"
                part.write_bytes(encode(frames_THW3, spec.fps))  # nearly lossless: its errors are no motion
                part.replace(target)
                made += 1
            except MotiveError:
                raise
            except OSError as error:
                raise InputError(f"cannot write {target}: {error.strerror or error}") from None
            except Exception as error:  # one prompt must not stop the others, whatever a model raises on it
                failed[clip.file] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        progress("generate", number, len(wanted))
    there = sum((root / clip.file).exists() for clip in read_generated(root) or ())
    return GenerateReport(str(root), there, made, failed)


def noise_seed(prompt: str, seed: int) -> int:
    """Seed of a clip's noise, of its prompt and seed alone."""
    digest = hashlib.sha256(f"{seed}|{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little")


def _file(prompt: str, seed: int) -> str:
    slug = re.sub(r"[^A-Za-z0-9]+", "-", prompt).strip("-")[:40].strip("-") or "clip"
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"videos/{slug}_{digest}_s{seed}.mp4"


def _spec(config: GenerateConfig, card: ModelCard) -> ClipSpec:
    spec = ClipConfig(frames=config.frames, height=config.height, width=config.width).resolve(card)
    require_encoder(spec)
    return spec


def _told(config: GenerateConfig, spec: ClipSpec) -> dict[str, Any]:
    """What a model is asked beyond caption and seed: nothing that its protocol does not promise, unless it was set."""
    sized = any(value is not None for value in (config.frames, config.height, config.width))
    given = {"spec": spec if sized else None, "steps": config.sampling_steps, "guidance": config.guidance}
    return {name: value for name, value in given.items() if value is not None}


def _kept(config: GenerateConfig) -> dict[str, Any]:
    return {name: value for name, value in plain(config).items() if name != "device"}


def _begin(root: Path, about: Mapping[str, Any], wanted: Sequence[GeneratedClip]) -> None:
    """Write the records; clips of earlier calls with the same settings stay in them."""
    old = _record(root)
    if old is None and root.exists() and any(root.iterdir()):
        raise InputError(f"{root} is not empty and holds no clips of motive generate: choose another folder")
    if old is not None and any(old.get(name) != json.loads(json.dumps(value)) for name, value in about.items()):
        raise InputError(f"{root} holds clips of another model or of other settings: choose another folder")
    clips = {clip["file"]: clip for clip in (old["clips"] if old else ())} | {c.file: asdict(c) for c in wanted}
    rows = list(clips.values())
    try:
        (root / "videos").mkdir(parents=True, exist_ok=True)
        _write(root / "prompts.json", json.dumps({Path(row["file"]).name: row["prompt"] for row in rows}, indent=1))
        listing = [json.dumps({"video": row["file"], "prompt": row["prompt"], "seed": row["seed"]}) for row in rows]
        _write(root / "metadata.jsonl", "\n".join(listing))
        _write(root / RECORD, json.dumps({"format": FORMAT, **about, "clips": rows}, indent=1))
    except OSError as error:
        raise InputError(f"cannot write into {root}: {error.strerror}; choose another folder") from None


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / RECORD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): generate into another folder") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return None
    return data
