"""Every setting of the product, one place each: default, unit, reason.

Command-line options, operator forms, configuration files and run records are made from these classes, so they cannot
drift apart. The classes check their values when they are made; ``load`` reads a whole run from YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from motive_fo.clips.policy import Short
from motive_fo.clips.spec import ClipSpec, Crop
from motive_fo.errors import ConfigError
from motive_fo.models.card import ModelCard
from motive_fo.models.diffusion.folder import absolute_name

_STRICT = ConfigDict(extra="forbid")

Config = TypeVar("Config")

PRESET_HELP: Final = (
    "settings to start from: our defaults, three gradients a clip; or the paper read literally, one; settings given "
    "apart win"
)

MaskSide = Literal["both", "query", "train", "none"]
Preset = Literal["default", "paper"]
Combine = Literal["mean-cosine", "concat", "mean-sketch", "mean-rank", "mean-zscore"]
Center = Literal["none", "mean"]
Kernel = Literal["identity", "gauss-newton"]
Overlap = Literal["keep", "remove"]
Layout = Literal["diffsynth", "finetrainers", "diffusion-pipe", "musubi", "videofolder", "vbench"]


@dataclass(frozen=True, config=_STRICT)
class ClipConfig:
    """Which frames and pixels of each video are used. What is left open is the model's own default."""

    start: Annotated[float, Field(ge=0, description="first instant used, in seconds from the first frame")] = 0.0
    fps: Annotated[
        float | None, Field(gt=0, le=1000, description="frames per second of the clip; the model's own where open")
    ] = None
    frames: Annotated[
        int | None, Field(ge=2, description="number of frames; must fit the model's rule, the model's own where open")
    ] = None
    height: Annotated[
        int | None, Field(ge=1, description="rows after scaling and cropping, in pixels; the model's own where open")
    ] = None
    width: Annotated[
        int | None, Field(ge=1, description="columns after scaling and cropping, in pixels; the model's own where open")
    ] = None
    crop: Annotated[
        Crop, Field(description="center: scale to cover, cut evenly; none: scale rows and columns apart")
    ] = "center"
    decoder: Annotated[
        Literal["auto", "pyav", "decord"],
        Field(description="auto is PyAV, right for every file; decord refuses files it would misread"),
    ] = "auto"

    short: Annotated[
        Short,
        Field(
            description="videos that end too early: refuse; loop; pad the last frame; fewer frames that fit the model"
        ),
    ] = "refuse"
    time_limit: Annotated[float, Field(gt=0, description="decoding one clip may take this many seconds")] = 60.0

    def resolve(self, card: ModelCard) -> ClipSpec:
        """The clip specification for a model. Raises ``ConfigError`` where the two do not fit."""
        default = card.default_clip
        spec = ClipSpec(
            start=self.start,
            fps=self.fps or default.fps,
            frames=self.frames or default.frames,
            height=self.height or default.height,
            width=self.width or default.width,
            crop=self.crop,
        )
        card.check(spec)
        return spec


@dataclass(frozen=True, config=_STRICT)
class FlowConfig:
    """How motion is estimated."""

    estimator: Annotated[
        Literal["auto", "alltracker", "alltracker-tiny", "dis", "farneback"],
        Field(
            description="motion estimator; auto: alltracker where its weights are on this machine, else dis; dis and "
            "farneback are OpenCV's and need no weights"
        ),
    ] = "auto"
    reading: Annotated[
        Literal["step", "anchor"],
        Field(description="step: since the previous frame; anchor: since the first frame"),
    ] = "step"
    anchor: Annotated[
        Literal["chain", "direct"],
        Field(description="dis, farneback: anchor reading by chained steps, or by matching each frame with the first"),
    ] = "chain"
    tracker_weights: Annotated[
        str | None, Field(min_length=1, description="alltracker: file of its weights; looked for where open")
    ] = None
    tracker_size: Annotated[
        int, Field(ge=0, description="alltracker: long side it sees, in pixels; 0: frames as they are")
    ] = 512
    anchor_frame: Annotated[
        int, Field(description="alltracker: the frame whose pixels are tracked; counted from the end if negative")
    ] = 0
    tracker_iterations: Annotated[int, Field(ge=1, description="alltracker: refinements of each window")] = 4
    tracker_precision: Annotated[
        Literal["float32", "bfloat16"], Field(description="alltracker: bfloat16 is faster on a GPU, and less exact")
    ] = "float32"
    tracker_memory: Annotated[
        int | None, Field(ge=1, description="alltracker: what a window may take for a moment, in MiB; by the device")
    ] = None
    tracker_device: Annotated[str, Field(description="alltracker: auto, cpu, cuda or cuda:N")] = "auto"


@dataclass(frozen=True, config=_STRICT)
class MotionConfig:
    """How displacement becomes a mask and a description."""

    static_floor: Annotated[
        float,
        Field(ge=0, description="a clip whose strongest motion stays below this is static, in pixels per frame"),
    ] = 0.05  # rendered clips at 64x64: still ones stay below 0.003, the slowest that move reach 0.07
    timing: Annotated[
        Literal["film", "frames"],
        Field(
            description="film: displacement per time of the film; frames: between the frames shown, however far apart "
            "they were in the film (the paper's)"
        ),
    ] = "film"
    camera: Annotated[
        Literal["keep", "remove"],
        Field(description="keep: camera motion counts (the paper's); remove: only what objects do"),
    ] = "keep"
    camera_model: Annotated[
        Literal["similarity", "affine"],
        Field(description="the camera as shift, turn and zoom, or with shear and uneven zoom too"),
    ] = "similarity"
    hoof_bins: Annotated[int, Field(ge=1, le=360, description="directions in the flow histogram")] = 16
    pooling: Annotated[
        Literal["area", "bilinear"],
        Field(description="pixels to latent cells: area averages all of them; bilinear reads four (the paper's)"),
    ] = "area"
    reuse: Annotated[
        bool, Field(description="use motion measured by earlier runs, and keep it for later ones; changes no number")
    ] = True


@dataclass(frozen=True, config=_STRICT)
class AttributionConfig:
    """Which gradients are taken and how they are projected."""

    model: Annotated[
        str,
        Field(
            min_length=1,
            description="attributed video model: tiny (embedded), a diffusers folder, a hub repository OWNER/NAME; "
            "with +FOLDER a fine-tuned transformer of it; or MODULE:NAME, an adapter of your own",
        ),
    ] = "tiny"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="numbers of network and text encoder; auto: bfloat16 on a GPU, float32 elsewhere"),
    ] = "auto"
    checkpointing: Annotated[
        Literal["auto", "on", "off"],
        Field(description="compute activations again instead of keeping them; auto: for large networks"),
    ] = "auto"
    offload: Annotated[
        Literal["auto", "on", "off"],
        Field(
            description="keep the network's blocks in main memory, each comes to the GPU when it computes; auto: where "
            "weights and a clip's activations do not fit"
        ),
    ] = "auto"
    keep_encodings: Annotated[
        bool, Field(description="keep latents and text embeddings of large models for later runs; changes no number")
    ] = True
    timesteps: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1000)], ...],
        Field(min_length=1, description="positions in the noise schedule, 0 (clean) to 1000 (noise)"),
    ] = (500.0, 750.748, 850.0)
    # Choice: the paper's, 750.748, and one on either side. Three chose better clips than one in three of four cells of
    # the choosing pools (docs/attribution-quality.md); of a model of two experts all three are the low-noise one's.
    noises: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(
            min_length=1, description="seeds of the noise shared by all clips; one gradient for each timestep and seed"
        ),
    ] = (0,)
    include: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(min_length=1, description="glob patterns of the names of parameters that are attributed"),
    ] = ("*",)
    exclude: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(description="glob patterns of the names of parameters that are left out"),
    ] = ()
    projection: Annotated[
        Literal["srht", "fastfood", "gaussian", "identity"],
        Field(description="gradient to sketch; fastfood is the paper's, gaussian and identity are slow oracles"),
    ] = "srht"  # as good as fastfood and faster: docs/benchmarks.md
    dimension: Annotated[int, Field(ge=1, description="numbers in a sketch; a power of two for srht and fastfood")] = (
        512
    )
    block: Annotated[int, Field(ge=1, description="gradient elements per Walsh-Hadamard block, a power of two")] = 4096
    seed: Annotated[int, Field(ge=0, description="seed of the projection")] = 0
    sketch_dtype: Annotated[
        Literal["float32", "float16"],
        Field(description="numbers of stored sketches; float16: half the bytes, 11 significant bits"),
    ] = "float32"
    device: Annotated[str, Field(description="auto, cpu, cuda or cuda:N")] = "auto"
    devices: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(description="several GPUs by number, such as 0,1: a copy of the network on each, one clip at a time"),
    ] = ()
    caption_field: Annotated[
        str | None,
        Field(
            min_length=1,
            description="field of the dataset with the captions; caption, prompt or text, the first that holds text, "
            "if open",
        ),
    ] = None

    @field_validator("devices")
    @classmethod
    def _by_number(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        """A number is a GPU's."""
        return tuple(f"cuda:{name}" if name.isdecimal() else name for name in devices)

    @field_validator("model")
    @classmethod
    def _from_anywhere(cls, name: str) -> str:
        """Folders by their absolute paths: a run is continued from other folders too."""
        return absolute_name(name)


@dataclass(frozen=True, config=_STRICT)
class EngineConfig:
    """Which processes compute motion, encodings and gradients, and when they give up. It changes no number."""

    engine: Annotated[
        Literal["local", "ray"],
        Field(description="local: this machine, on --device or --devices; ray: the workers of a Ray cluster"),
    ] = "local"
    address: Annotated[
        str | None,
        Field(
            min_length=1,
            description="ray: auto joins the cluster of this machine, ray://HOST:PORT another, local starts one; "
            "RAY_ADDRESS, else local, if open",
        ),
    ] = None
    workers: Annotated[
        int | None,
        Field(ge=1, description="ray: workers, each with a model; one for every GPU, else every CPU there is if open"),
    ] = None
    max_failed: Annotated[
        float,
        Field(
            ge=0, le=1, description="stop when more than this share of the clips has failed, and 10 at least; 1: never"
        ),
    ] = 0.5  # Choice: real corpora have broken files, but where most fail it is a setting, a disk or the model


@dataclass(frozen=True, config=_STRICT)
class InfluenceConfig:
    """How sketches become influence."""

    mask_side: Annotated[
        MaskSide,
        Field(description="whose gradients carry the motion mask; both is the paper's"),
    ] = "both"
    timesteps: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1000)], ...] | None,
        Field(min_length=1, description="timesteps that are used; all of the run's where open"),
    ] = None
    noises: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...] | None,
        Field(min_length=1, description="noise seeds that are used; all of the run's where open"),
    ] = None
    combine: Annotated[
        Combine,
        Field(
            description="several timesteps and noises: mean-cosine is the paper's; concat, mean-sketch, mean-rank, "
            "mean-zscore"
        ),
    ] = "mean-cosine"
    center: Annotated[
        Center,
        Field(description="mean: take the training clips' mean direction off all sketches first; none is the paper's"),
    ] = "none"
    kernel: Annotated[
        Kernel,
        Field(
            description="gauss-newton: weigh directions that are common among the training clips down; identity is the "
            "paper's"
        ),
    ] = "identity"
    damping: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="gauss-newton: added to every eigenvalue, as a share of their mean; the more, the nearer to "
            "identity",
        ),
    ] = 0.1  # Choice: a tenth of the mean eigenvalue, the customary damping of influence functions (Grosse et al. 2023)
    overlap: Annotated[
        Overlap,
        Field(
            description="remove: take what the overlap of the motion masks alone explains off each query's scores; "
            "keep is the paper's"
        ),
    ] = "keep"
    checkpoints: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            description="runs of the same clips with other checkpoints of the model, RUN=WEIGHT: their learning rates "
            "relative to this run's, which has weight 1"
        ),
    ] = ()


@dataclass(frozen=True, config=_STRICT)
class SelectionConfig:
    """Which clips are kept."""

    budget: Annotated[float, Field(gt=0, le=1, description="share of the scored clips that is selected")] = 0.1
    vote_share: Annotated[
        float | None,
        Field(gt=0, le=1, description="each query votes for this share of the clips; the budget where left open"),
    ] = None
    by: Annotated[
        Literal["votes", "mean", "max"],
        Field(description="order: most votes; highest mean percentile rank; highest rank with any query"),
    ] = "votes"
    score: Annotated[
        Literal["motion", "whole", "difference"],
        Field(description="influence on the motion, on the whole clip, or the first minus the second"),
    ] = "motion"
    queries: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(description="queries and groups of queries to follow, by id or name; all where empty"),
    ] = ()
    avoid: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(description="queries and groups to avoid, such as bad generations; those tagged 'avoid' always are"),
    ] = ()
    harmful_for: Annotated[
        int | None,
        Field(ge=1, description="a clip is harmful if it is among the worst for so many queries; open: more than half"),
    ] = None
    motion_floor: Annotated[
        float, Field(ge=0, description="clips whose mean motion is below this are left out, in pixels per frame")
    ] = 0.0
    quotas: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(description="shares of the selection: 'tag:NAME<=0.2', 'caption:PATTERN>=0.1'"),
    ] = ()
    collapse: Annotated[
        float | None,
        Field(
            gt=0, le=1, description="of clips whose gradients have at least this cosine only the best stays; open: all"
        ),
    ] = None


@dataclass(frozen=True, config=_STRICT)
class ExportConfig:
    """How a selection is written for a trainer."""

    layout: Annotated[Layout, Field(description="trainer (or judge) whose layout is written")] = "diffsynth"
    media: Annotated[
        Literal["symlink", "hardlink", "copy", "reencode"],
        Field(
            description="symlink and hardlink take no space; copy stands alone; reencode writes the frames as scored"
        ),
    ] = "symlink"
    overwrite: Annotated[bool, Field(description="renew the export that is in the folder")] = False
    strict: Annotated[bool, Field(description="refuse if the trainer would not train on some of the clips")] = False
    stale: Annotated[
        Literal["skip", "keep"],
        Field(description="clips whose file or caption was replaced after they were scored: leave them out, or not"),
    ] = "skip"
    frames: Annotated[
        int | None, Field(ge=2, description="frames the trainer is asked for; those the clips were scored with if open")
    ] = None
    buckets: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(description="numbers of frames the trainer may cut clips to; measured from the clips where empty"),
    ] = ()
    trainer_fps: Annotated[
        float | None,
        Field(
            gt=0,
            le=1000,
            description="frames per second the trainer works at; 16, or 24 for clips scored at 24, if open",
        ),
    ] = None
    missing_caption: Annotated[
        str, Field(description="caption for clips that have none; empty leaves them without")
    ] = ""
    steps: Annotated[
        int | None, Field(ge=1, description="training steps the command asks for; the trainer's own choice if open")
    ] = None


_DEFAULTS: Final[Mapping[str, Any]] = {
    "flow": FlowConfig(),
    "motion": MotionConfig(),
    "attribution": AttributionConfig(),
    "influence": InfluenceConfig(),
    "selection": SelectionConfig(),
}

#: section -> settings of the preset ``paper``: the literal reading of what the paper states. All else, such as frames
#: and size, is the model's and the corpus's. The preset ``default`` is the defaults of the classes above.
PAPER: Final[Mapping[str, Mapping[str, Any]]] = {
    "flow": {"estimator": "alltracker", "reading": "anchor"},  # Eq. 12: displacement from frame 0, on frame 0's grid
    "motion": {"timing": "frames", "camera": "keep", "pooling": "bilinear"},  # Eq. 12, 14
    "attribution": {
        "timesteps": (750.748,),  # t_fix = 751, index 500 of the shift-3 schedule
        "noises": (0,),
        "include": ("*",),
        "exclude": (),
        "projection": "fastfood",  # Eq. 8
        "dimension": 512,
    },
    "influence": {
        "mask_side": "both",
        "timesteps": None,
        "noises": None,
        "combine": "mean-cosine",  # Eq. 6
        "center": "none",
        "kernel": "identity",  # Eq. 17
        "overlap": "keep",
        "checkpoints": (),
    },
    "selection": {"budget": 0.1, "vote_share": None, "by": "votes", "score": "motion"},  # Eq. 18, top 10 %
}


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """A whole run, from a folder of clips to an export."""

    dataset: Annotated[str, Field(min_length=1, description="name of the FiftyOne dataset")]
    run: Annotated[str, Field(description="name of the run: its field group, its views, its record")] = "motive"
    videos: Annotated[
        str | None, Field(description="folder of clips, or a csv/jsonl with paths and captions; imported first")
    ] = None
    queries: Annotated[
        str | None, Field(description="the same for the query clips, which show the motion that is wanted")
    ] = None
    train: Annotated[str | None, Field(description="tag or saved view of the training clips; tag 'train' if open")] = (
        None
    )
    query: Annotated[
        str | None,
        Field(description="tag, saved view or second dataset of the query clips; tag 'query' if open"),
    ] = None
    export_to: Annotated[str | None, Field(description="folder for the selected clips; none is written if open")] = None
    store: Annotated[str | None, Field(description="where sketches are kept; the data folder of motive if open")] = None
    preset: Annotated[Preset, Field(description=PRESET_HELP)] = "default"
    clip: ClipConfig = ClipConfig()
    flow: FlowConfig = FlowConfig()
    motion: MotionConfig = MotionConfig()
    attribution: AttributionConfig = AttributionConfig()
    engine: EngineConfig = EngineConfig()
    influence: InfluenceConfig = InfluenceConfig()
    selection: SelectionConfig = SelectionConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, data: Any) -> Any:
        """What the preset says, below what is given; a section given whole is taken as it is."""
        given = data.kwargs if isinstance(data, ArgsKwargs) else data
        if not isinstance(given, Mapping) or given.get("preset") not in get_args(Preset):
            return data
        under = {**given}
        for section in PAPER:
            own = given.get(section, {})
            if isinstance(own, Mapping):
                under[section] = {**preset_settings(given["preset"], section), **own}
        return ArgsKwargs(data.args, under) if isinstance(data, ArgsKwargs) else under


def parse(data: object) -> RunConfig:
    """A run from plain data. Raises ``ConfigError`` naming every setting that is wrong, in one line."""
    try:
        return TypeAdapter(RunConfig).validate_python(data)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def load(path: str | Path) -> RunConfig:
    """A run from a YAML file. Relative paths in it are relative to the file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds a setting that is unknown or wrong.
    """
    import yaml

    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold settings such as 'dataset: NAME', one per line")
    data = {key: value for key, value in data.items() if value is not None}  # a section with nothing in it
    for key in ("videos", "queries", "export_to", "store"):
        if isinstance(data.get(key), str) and not data[key].startswith("dataset:"):
            data[key] = str(path.parent / Path(data[key]).expanduser())
    attribution = data.get("attribution")
    if isinstance(attribution, dict) and isinstance(attribution.get("model"), str):
        data["attribution"] = {**attribution, "model": absolute_name(attribution["model"], path.parent)}
    return parse(data)


def merge(base: Config, given: Config | Mapping[str, Any] | None, section: str) -> Config:
    """Settings as given: whole, or ``base`` with some of them changed. Raises ``ConfigError`` for a wrong one."""
    if given is not None and not isinstance(given, Mapping):
        return given
    try:
        return replace(base, **(given or {}))  # type: ignore[type-var]
    except ValidationError as error:
        raise ConfigError(explain(error, f"{section}.")) from None


def preset_settings(preset: str, section: str) -> dict[str, Any]:
    """What a preset sets in a section: ``default`` what ``paper`` does, to the default.

    Raises:
        ConfigError: there is no such preset.
    """
    if preset not in get_args(Preset):
        raise ConfigError(f"there is no preset {preset!r}: choose one of {', '.join(get_args(Preset))}")
    paper = PAPER.get(section, {})
    return dict(paper) if preset == "paper" else {name: getattr(_DEFAULTS[section], name) for name in paper}


def plain(config: object) -> dict[str, Any]:
    """A settings object as JSON-ready data."""
    data: dict[str, Any] = asdict(config)  # type: ignore[call-overload]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


def plain_hint(hint: Any) -> Any:
    """A setting's type without its annotation and without None: what a form or a command line asks for."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        return plain_hint(next(part for part in get_args(hint) if part is not type(None)))
    return hint


def explain(error: ValidationError, prefix: str = "") -> str:
    """A validation error as one line: setting (with ``prefix``), what is wrong, what was given."""
    parts = []
    for item in error.errors():
        parts_of_name = (str(part) for part in item["loc"])
        name = prefix + ".".join(part if part.isprintable() else repr(part) for part in parts_of_name)
        if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            parts.append(f"{name}: no such setting")
        elif item["type"] in ("missing", "missing_argument"):
            parts.append(f"{name}: missing")
        else:
            parts.append(f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}")
    return "; ".join(parts)
