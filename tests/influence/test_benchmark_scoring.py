"""The benchmark of attribution scores stored sketches as the product does."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE
from benchmarks.attribution.methods import SketchedClips, damped, products, variants
from benchmarks.attribution.shrinkage import ledoit_wolf_damping
from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import InfluenceConfig
from motive_fo.pipeline.scoring import score
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status

DIMENSION, GRID = 12, (2, 3, 3)
TIMESTEPS, NOISES = (300.0, 750.748), (0, 1)
IDS = {GALLERY: [f"clip{n}" for n in range(15)], TUNE: ["a"], REPORT: ["b", "c"]}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("bench") / "run.zarr", np.random.default_rng(0)
    columns = {"sketch": Column("float32", (2, DIMENSION)), "norm": Column("float64", (2,))}
    with RunStore(path, write=True) as store:
        motion = store.table("motion", {"mask": Column("float32", GRID)}, {})
        for clip_id in (*IDS[GALLERY], *IDS[TUNE], *IDS[REPORT]):
            motion.put(Row(clip_id, Status.DONE, values={"mask": rng.uniform(size=GRID).astype(np.float32)}))
        motion.flush()
        for role, ids in (("train", IDS[GALLERY]), ("query", IDS[TUNE] + IDS[REPORT])):
            tables = store.sketches(role, samples_of(TIMESTEPS, NOISES), columns, {"model": "none"})
            for table in tables.tables.values():
                for clip_id in ids:
                    sketch = (1 + rng.normal(size=(2, DIMENSION))).astype(np.float32)
                    values = {"sketch": sketch, "norm": np.linalg.norm(sketch, axis=1)}
                    table.put(Row(clip_id, Status.DONE, content="x", values=values))
            tables.flush()
    corpus = SimpleNamespace(records={role: [SimpleNamespace(id=i) for i in ids] for role, ids in IDS.items()})
    return SketchedClips(path, SimpleNamespace(corpus=corpus))


@pytest.mark.slow
def test_every_variant_has_the_numbers_of_the_scoring_step(clips):
    with RunStore(clips.path, write=True) as store:
        for name, config in damped(variants(TIMESTEPS, NOISES)).items():
            expected = score(IDS[GALLERY], IDS[TUNE] + IDS[REPORT], store, config)[0].motion_QN
            np.testing.assert_allclose(clips.scores(config), expected, atol=1e-6, err_msg=name)
            found = clips.by_role(config)
            np.testing.assert_allclose(np.concatenate([found[TUNE], found[REPORT]]), expected, atol=1e-6)


@pytest.mark.parametrize("kernel", ["identity", "gauss-newton"])
def test_products_keep_the_lengths_that_cosines_divide_by(clips, kernel):
    config = InfluenceConfig(mask_side="query", kernel=kernel, timesteps=TIMESTEPS[:1], noises=(0,))
    query, train = (each[:, 0].astype(np.float64) for each in clips.pair(config))
    stored = RunStore(clips.path).sketches("train").read("sketch", IDS[GALLERY])[:, 0, UNMASKED].astype(np.float64)
    expected = (query / np.linalg.norm(query, axis=1, keepdims=True)) @ train.T
    found = products(clips, config)
    np.testing.assert_allclose(found, expected / np.median(np.linalg.norm(stored, axis=1)), rtol=1e-6)
    if kernel == "identity":  # over the clips' lengths again: the cosine
        lengths = np.linalg.norm(stored, axis=1)
        np.testing.assert_allclose(found * np.median(lengths) / lengths, clips.scores(config), atol=1e-6)


def test_sides_are_read_apart(clips):
    stored = RunStore(clips.path).sketches("train").read("sketch", IDS[GALLERY])
    for side, place in (("both", MASKED), ("query", UNMASKED)):
        train = clips.pair(InfluenceConfig(mask_side=side, timesteps=TIMESTEPS[1:], noises=(0,)))[1]
        assert np.array_equal(train[:, 0], stored[:, 2, place])


@pytest.mark.parametrize("clips_of", [5, 40, 400])
def test_the_automatic_damping_is_ledoit_and_wolfs_shrinkage(clips_of):
    rng = np.random.default_rng(2)
    sketches = rng.normal(size=(clips_of, 10)) * np.linspace(0.2, 3, 10) * rng.uniform(0.1, 9, size=(clips_of, 1))
    directions = sketches / np.linalg.norm(sketches, axis=1, keepdims=True)
    outer = directions[:, :, None] * directions[:, None]
    moment = outer.mean(0)
    away = ((moment - np.eye(10) / 10) ** 2).sum()
    noise = ((outer - moment) ** 2).sum() / clips_of**2
    share = min(noise / away, 1)
    assert ledoit_wolf_damping(sketches) == pytest.approx(share / (1 - share))


def test_clips_that_have_nothing_in_common_are_left_as_they_are():
    assert ledoit_wolf_damping(np.eye(8)) > 1e5
