"""What each part of the method is worth: one thing changed at a time, on the corpus of objects.

Every change is judged with two estimators: the paper's (mask on both sides, cosine) and one with the mask on the
query's side and Gauss-Newton. Figures are of the reporting queries of seed 1, as everywhere; nothing is chosen from
them. The linear datamodeling score stands beside them where the trainings of matched subsets are in the cache.

Scores are kept in ``CACHE/ablations/NAME.npz``: a stopped run goes on with the next ablation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution import lds
from benchmarks.attribution.bench import FULL as FULL_BENCH
from benchmarks.attribution.bench import Bench, BenchSetting, motion_settings, open_bench, write_whole
from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE
from benchmarks.attribution.methods import FEW, ONE, SEVERAL, SketchedClips, by_role
from benchmarks.attribution.protocol import REPORTS, Result
from benchmarks.attribution.shrinkage import ledoit_wolf_damping
from benchmarks.attribution.sketches import Taken, sketched
from motive_fo.config import InfluenceConfig
from motive_fo.influence.cosine import sample_cosines
from motive_fo.influence.selection import rank_clips
from motive_fo.influence.stability import stability
from motive_fo.motion.hoof import hoof, similarity
from motive_fo.pipeline.motion import decoded
from motive_fo.pipeline.report import StepReport
from motive_fo.quality.intervals import Bootstrap, Estimate, mean_over_queries
from motive_fo.quality.lds import lds as predictivity
from motive_fo.quality.retrieval import retrieval

Said = Callable[[str, int, int], None]

#: estimator -> its settings; what is changed comes on top.
BASES: Final = {
    "mask both": InfluenceConfig(timesteps=(ONE,), noises=(0,)),
    "mask query, gauss-newton": InfluenceConfig(
        timesteps=(ONE,), noises=(0,), mask_side="query", kernel="gauss-newton"
    ),
}
#: (setting, estimator) -> (Q, N) of the reporting queries, NaN for gallery clips that were left out.
Cases = dict[tuple[str, str], npt.NDArray[np.float64]]
_DIMENSIONS: Final = (32, 64, 128, 256, 512, 1024, 2048)
_BINS: Final = (4, 8, 16, 32)
_NOISES: Final = (0, 1, 2, 3)
_SHARES: Final = (0.05, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class AblationSetting:
    """How large the tables are.

    Attributes:
        bench: size of the corpus and training of its model.
        timesteps: of the stored sketches.
    """

    bench: BenchSetting
    timesteps: tuple[float, ...]


FULL: Final = AblationSetting(FULL_BENCH, SEVERAL)
FAST: Final = AblationSetting(lds.FAST.bench, (300.0, ONE))


def run(cache: Path, setting: AblationSetting, said: Said) -> Result:
    """All ablations, those in the cache as they are there."""
    bench = open_bench(cache, "objects", REPORTS, setting.bench)
    losses = _losses(bench, setting)
    rows: list[dict[str, Any]] = []
    for done, (name, make) in enumerate(ABLATIONS.items()):
        said("ablations", done, len(ABLATIONS))
        cases = _kept(cache, name, bench, setting, make)
        for label in dict.fromkeys(label for label, _ in cases):
            row = {"what": name, "setting": label}
            for base in BASES:
                scores_QN = cases.get((label, base))
                row[f"NDCG@20, {base}"] = "" if scores_QN is None else _text(_ndcg(bench, scores_QN))
                row[f"LDS, {base}"] = "" if scores_QN is None or losses is None else _predictivity(scores_QN, losses)
            rows.append(row)
    clips = SketchedClips(sketched(bench, "trained", bench.model, Taken(setting.timesteps)), bench)
    more = {"setting": asdict(setting), "votes": _votes(bench, clips), "stability": _stability(bench, clips, setting)}
    return Result(rows, [], more)


def _kept(
    cache: Path, name: str, bench: Bench, setting: AblationSetting, make: Callable[[Bench, AblationSetting], Cases]
) -> Cases:
    digest = hashlib.sha256(repr(setting).encode()).hexdigest()[:8]
    path = cache / "ablations" / f"{name.replace(' ', '-')}-{digest}.npz"
    if not path.exists():
        arrays = {"|".join(key): scores_QN for key, scores_QN in make(bench, setting).items()}

        def save(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes further names for its option

        write_whole(path, save)
    with np.load(path) as stored:
        return {(key.split("|")[0], key.split("|")[1]): stored[key] for key in stored.files}


# --- figures ----------------------------------------------------------------------------------------------------------


def _ndcg(bench: Bench, scores_QN: npt.NDArray[np.float64]) -> Estimate:
    there_N = np.isfinite(scores_QN).all(0)
    relevant_QN = bench.corpus.relevant(REPORT)
    return mean_over_queries(
        retrieval(scores_QN[:, there_N], relevant_QN[:, there_N]).ndcg_20, Bootstrap(seed=bench.seed)
    )


def _predictivity(scores_QN: npt.NDArray[np.float64], losses: lds.Measured) -> str:
    if not np.isfinite(scores_QN).all():
        return ""
    return _text(predictivity(scores_QN, losses.member_MN, losses.of(REPORT), Bootstrap(resamples=500, seed=1)).lds)


def _text(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _losses(bench: Bench, setting: AblationSetting) -> lds.Measured | None:
    """Losses after training on matched subsets, where they are all in the cache."""

    class NotThereError(Exception):
        pass

    def refuse(what: str, done: int, count: int) -> None:
        raise NotThereError

    try:  # whom it tells of a training, it tells before
        return lds.measure(bench, "matched", lds.FULL if setting is FULL else lds.FAST, refuse)
    except NotThereError:
        return None


# --- ablations of stored sketches -------------------------------------------------------------------------------------


def _stored(bench: Bench, setting: AblationSetting) -> SketchedClips:
    return SketchedClips(sketched(bench, "trained", bench.model, Taken(setting.timesteps)), bench)


def _report(bench: Bench, scores_QN: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return by_role(bench, scores_QN)[REPORT]


def _changed(bench: Bench, clips: SketchedClips, changes: Mapping[str, Mapping[str, Any]]) -> Cases:
    return {
        (label, name): _report(bench, clips.scores(replace(base, **change)))
        for label, change in changes.items()
        for name, base in BASES.items()
    }


def _mask_sides(bench: Bench, setting: AblationSetting) -> Cases:
    return _changed(
        bench, _stored(bench, setting), {side: {"mask_side": side} for side in ("both", "query", "train", "none")}
    )


def _timesteps(bench: Bench, setting: AblationSetting) -> Cases:
    return _changed(bench, _stored(bench, setting), {f"{t:g}": {"timesteps": (t,)} for t in setting.timesteps})


def _timestep_counts(bench: Bench, setting: AblationSetting) -> Cases:
    """The paper's timestep first, then those nearest to it."""
    near = sorted(setting.timesteps, key=lambda t: abs(t - ONE))
    changes = {str(count): {"timesteps": tuple(near[:count])} for count in range(1, len(near) + 1)}
    return _changed(bench, _stored(bench, setting), changes)


def _combinations(bench: Bench, setting: AblationSetting) -> Cases:
    ways = ("mean-cosine", "concat", "mean-sketch", "mean-rank", "mean-zscore")
    changes = {way: {"combine": way, "timesteps": setting.timesteps} for way in ways}
    return _changed(bench, _stored(bench, setting), changes)


def _overlaps(bench: Bench, setting: AblationSetting) -> Cases:
    return _changed(bench, _stored(bench, setting), {way: {"overlap": way} for way in ("keep", "remove")})


def _dampings(bench: Bench, setting: AblationSetting) -> Cases:
    clips = _stored(bench, setting)
    (name, base) = list(BASES.items())[1]
    automatic = ledoit_wolf_damping(clips.pair(replace(base, kernel="identity"))[1][:, 0])
    made: Cases = {}
    for damping in (0.001, 0.01, 0.1, 1.0, 10.0, automatic):
        label = f"Ledoit-Wolf ({damping:.2g})" if damping == automatic else f"{damping:g}"
        made[label, name] = _report(bench, clips.scores(replace(base, damping=damping)))
    return made


def _galleries(bench: Bench, setting: AblationSetting) -> Cases:
    """Every fourth, every second and every clip of each motion: the same queries, fewer clips."""
    clips, motions_N = _stored(bench, setting), bench.corpus.motions[GALLERY]
    made: Cases = {}
    for step in (4, 2, 1):
        kept = np.concatenate([np.flatnonzero(motions_N == m)[::step] for m in np.unique(motions_N)])
        for name, base in BASES.items():
            scores_QN = np.full((len(bench.corpus.records[REPORT]), len(clips.train)), np.nan)
            scores_QN[:, kept] = _report(bench, clips.only(kept).scores(base))
            made[f"{len(kept)} clips", name] = scores_QN
    return made


# --- ablations that take sketches or motion again ---------------------------------------------------------------------


def _noises(bench: Bench, setting: AblationSetting) -> Cases:
    clips = SketchedClips(sketched(bench, "trained", bench.model, Taken((ONE,), noises=_NOISES)), bench)
    return _changed(bench, clips, {str(count): {"noises": _NOISES[:count]} for count in (1, 2, 4)})


def _sketch_sizes(bench: Bench, setting: AblationSetting) -> Cases:
    """The first D numbers of longer sketches: each is a row of the map drawn like any other."""
    clips = SketchedClips(sketched(bench, "long", bench.model, Taken((ONE,), dimension=max(_DIMENSIONS))), bench)
    return {
        (str(size), name): _report(bench, clips.cut(size).scores(base))
        for size in _DIMENSIONS
        for name, base in BASES.items()
    }


def _masks(bench: Bench, setting: AblationSetting) -> Cases:
    ways: dict[str, Taken] = {
        "dis, step, area": Taken((ONE,)),
        "bilinear": Taken((ONE,), motion={"pooling": "bilinear"}),
        "camera removed": Taken((ONE,), motion={"camera": "remove"}),
        "anchor": Taken((ONE,), flow={"reading": "anchor"}),
        "farneback": Taken((ONE,), flow={"estimator": "farneback"}),
    }
    made: Cases = {}
    for label, taken in ways.items():
        plain = taken.flow is None and taken.motion is None
        name = "trained" if plain else f"mask-{label.replace(' ', '-')}"
        how = Taken(setting.timesteps) if plain else taken
        made |= _changed(bench, SketchedClips(sketched(bench, name, bench.model, how), bench), {label: {}})
    return made


def _hoof_bins(bench: Bench, setting: AblationSetting) -> Cases:
    """Motion histograms alone, without a model."""
    motion = motion_settings(bench.model.card)
    described: dict[str, list[list[npt.NDArray[np.float32]]]] = {}
    for role in (REPORT, GALLERY):
        described[role] = []
        for _, _, clip in decoded(bench.corpus.records[role], motion, StepReport("hoof")):
            if isinstance(clip, Exception):
                raise clip
            flow = motion.displacement(clip)
            described[role].append([hoof(flow, bins) for bins in _BINS])
    made: Cases = {}
    for place, bins in enumerate(_BINS):
        query, gallery = (np.stack([each[place] for each in described[role]]) for role in (REPORT, GALLERY))
        made[f"{bins} bins", next(iter(BASES))] = similarity(query, gallery)
    return made


ABLATIONS: Final[dict[str, Callable[[Bench, AblationSetting], Cases]]] = {
    "mask side": _mask_sides,
    "overlap": _overlaps,
    "timestep": _timesteps,
    "number of timesteps": _timestep_counts,
    "combination": _combinations,
    "damping": _dampings,
    "gallery": _galleries,
    "noise draws": _noises,
    "numbers in a sketch": _sketch_sizes,
    "mask": _masks,
    "HOOF without a model": _hoof_bins,
}


# --- selections and stability -----------------------------------------------------------------------------------------


def _votes(bench: Bench, clips: SketchedClips) -> list[dict[str, Any]]:
    """Share of the selection that has the motion of the queries, for selections by one motion's queries each."""
    base = BASES["mask query, gauss-newton"]
    scores_QN = _report(bench, clips.scores(base)).astype(np.float32)
    motions, gallery = bench.corpus.motions[REPORT], bench.corpus.motions[GALLERY]
    made = []
    for budget in _SHARES:
        for vote_share in _SHARES:
            hits = []
            for motion in np.unique(motions):
                ranking = rank_clips(scores_QN[motions == motion], clips.train, vote_share)
                place = {clip_id: n for n, clip_id in enumerate(clips.train)}
                taken = [place[i] for i in ranking.by_votes[: max(1, round(budget * len(gallery)))]]
                hits.append(float((gallery[taken] == motion).mean()))
            found = mean_over_queries(np.asarray(hits), Bootstrap(seed=bench.seed))
            made.append({"budget": budget, "vote share": vote_share, "of the queries' motion": _text(found)})
    return made


def _stability(bench: Bench, clips: SketchedClips, setting: AblationSetting) -> dict[str, dict[str, float | None]]:
    """Rank correlation, and overlap of the first tenth, between rankings that differ in one thing alone."""
    noisy = SketchedClips(sketched(bench, "trained", bench.model, Taken((ONE,), noises=_NOISES)), bench)
    steps = [
        SketchedClips(sketched(bench, f"step{each.step}", each.model, Taken(FEW)), bench)
        for each in bench.checkpoints[:-1]
    ]
    made: dict[str, dict[str, float | None]] = {}
    for name, base in BASES.items():
        every: dict[str, npt.NDArray[Any]] = {
            "noise": sample_cosines(*noisy.pair(replace(base, noises=_NOISES))),
            "timestep": sample_cosines(*clips.pair(replace(base, timesteps=setting.timesteps))),
            "checkpoint": np.stack([each.scores(base) for each in (*steps, clips)]),
        }
        cut = len(bench.corpus.records[TUNE])
        for what, scores_SQN in every.items():
            found = stability(scores_SQN[:, cut:].astype(np.float32))
            made[f"{what}, {name}"] = {
                "spearman": found.spearman and round(found.spearman, 3),
                "overlap": found.overlap and round(found.overlap, 3),
                "overlap by chance": round(found.by_chance, 3),
            }
    return made
