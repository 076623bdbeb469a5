"""Timesteps and noises: each stored apart, only the missing ones computed, combined when scoring."""

import itertools
import shutil

import numpy as np
import pytest

from motive_fo.attribution.batched import BatchedGradients
from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import AttributionConfig, InfluenceConfig
from motive_fo.errors import ClipError, StoreError
from motive_fo.influence.cosine import SIDES, cosine_scores
from motive_fo.pipeline import gradients as gradients_module
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import sample_scores, score
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import Sample, samples_of
from motive_fo.store.table import Status

T = 750.748


@pytest.fixture(scope="module")
def make(motion_settings, settings):
    def build(timesteps=(T,), noises=(0,)):
        config = AttributionConfig(timesteps=timesteps, noises=noises)
        return GradientSettings.build(motion_settings, config, settings.model)

    return build


def _run(path, records, settings, role="train", **more):
    with RunStore(path, write=True) as store:
        return compute_sketch_table(records, store, settings, role, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, records, make):
    """Two timesteps and two noises, computed together: path of the store."""
    path = tmp_path_factory.mktemp("whole") / "r.zarr"
    for role in ("query", "train"):
        _run(path, records[role], make((T, 300.0), (0, 1)), role)
    return path


def _files(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("sample", samples_of((T, 300.0), (0, 1)))
def test_a_sketch_is_the_same_alone_and_beside_other_samples(whole, tmp_path, records, make, sample):
    chosen = records["train"][:3]
    _run(tmp_path / "r.zarr", chosen, make((sample.timestep,), (sample.noise,)))
    ids = [record.id for record in chosen]
    alone = RunStore(tmp_path / "r.zarr").sketches("train")
    together = RunStore(whole).sketches("train", [sample])
    for column in ("sketch", "norm", "loss", "squares"):
        assert np.array_equal(alone.read(column, ids), together.read(column, ids), equal_nan=True)


def test_an_added_timestep_computes_only_what_is_missing(whole, tmp_path, records, make, monkeypatch):
    path = tmp_path / "r.zarr"
    _run(path, records["train"], make())
    before = _files(path / "train" / "t750.748-n0")
    calls, decoded = [], []
    real, real_decoded = BatchedGradients.sketches, gradients_module.decoded
    monkeypatch.setattr(
        BatchedGradients,
        "sketches",
        lambda self, tasks: calls.extend(task[-2:] for task in tasks) or real(self, tasks),
    )
    monkeypatch.setattr(
        gradients_module, "decoded", lambda todo, *a, **k: decoded.extend(todo) or real_decoded(todo, *a, **k)
    )
    report = _run(path, records["train"], make((T, 300.0), (0, 1)))
    assert _files(path / "train" / "t750.748-n0") == before
    assert set(calls) == {(T, 1), (300.0, 0), (300.0, 1)}
    per_clip = len(calls) / 3
    assert len(decoded) == per_clip  # once for all its samples, and clips known to be damaged never again
    assert report.status["failed"] == 5
    ids = [record.id for record in records["train"]]
    one, other = (RunStore(p).sketches("train") for p in (path, whole))
    assert one.samples == other.samples
    for column in ("sketch", "norm", "loss"):
        assert np.array_equal(one.read(column, ids), other.read(column, ids), equal_nan=True)
    for column in ("code", "stage", "message", "content"):
        assert one.read(column, ids).tolist() == other.read(column, ids).tolist()
    calls.clear()
    assert _run(path, records["train"], make((T, 300.0), (0, 1))).computed == 0
    assert not calls


def test_a_sample_left_out_of_the_settings_stays_usable(whole, tmp_path, records, make):
    path = tmp_path / "r.zarr"
    shutil.copytree(whole, path)
    for role in ("query", "train"):
        assert _run(path, records[role], make(), role).computed == 0
    sketches = RunStore(path).sketches("train")
    assert sketches.samples == [Sample(T, 0)]
    assert sketches.stored == sorted(samples_of((T, 300.0), (0, 1)))
    ids = {role: [r.id for r in chosen] for role, chosen in records.items()}
    with RunStore(path, write=True) as store:
        now = score(ids["train"], ids["query"], store, InfluenceConfig())[0]
        chosen = score(ids["train"], ids["query"], store, InfluenceConfig(timesteps=(300.0,), noises=(1,)))[0]
        assert now.samples == [Sample(T, 0)]
        assert chosen.samples == [Sample(300.0, 1)]
        assert not np.allclose(now.motion_QN, chosen.motion_QN, equal_nan=True, atol=0.01)
        with pytest.raises(StoreError, match="no gradients of train clips at timestep 500, noise 0; it has: "):
            score(ids["train"], ids["query"], store, InfluenceConfig(timesteps=(500.0,)))


def test_queries_that_lack_a_sample_are_named(whole, tmp_path, records, make):
    path = tmp_path / "r.zarr"
    _run(path, records["query"], make(), "query")
    _run(path, records["train"][:2], make((T, 300.0)))
    ids = {role: [r.id for r in chosen] for role, chosen in records.items()}
    with RunStore(path, write=True) as store:
        with pytest.raises(StoreError, match="no gradients of query clips at timestep 300"):
            score(ids["train"][:2], ids["query"], store, InfluenceConfig())
        score(ids["train"][:2], ids["query"], store, InfluenceConfig(timesteps=(T,)))


def _brute_force(query, train, combine):
    """Every estimator written as its definition, a loop over pairs."""

    def cosine(a, b):
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    query, train = query.astype(np.float64), train.astype(np.float64)
    samples = range(query.shape[1])
    scores = np.full((len(query), len(train)), np.nan)
    known = [n for n in range(len(train)) if np.isfinite(train[n]).all()]
    for q, n in itertools.product(range(len(query)), known):
        each = [cosine(query[q, s], train[n, s]) for s in samples]
        if combine == "mean-cosine":
            scores[q, n] = sum(each) / len(each)
        elif combine == "concat":
            scores[q, n] = cosine(np.concatenate(list(query[q])), np.concatenate(list(train[n])))
        elif combine == "mean-sketch":
            scores[q, n] = cosine(sum(query[q]) / len(each), sum(train[n]) / len(each))
        else:
            ranks = [
                sum(cosine(query[q, s], train[m, s]) < each[s] for m in known if m != n) / (len(known) - 1)
                for s in samples
            ]
            scores[q, n] = sum(ranks) / len(ranks)
    return scores


@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-sketch", "mean-rank"])
@pytest.mark.parametrize("mask_side", ["both", "query"])
def test_scores_are_those_of_a_plain_loop(whole, tmp_path, records, combine, mask_side, monkeypatch):
    path = tmp_path / "r.zarr"
    shutil.copytree(whole, path)
    monkeypatch.setattr("motive_fo.pipeline.scorable._BLOCK_SKETCHES", 12)  # three clips at once
    ids = {role: [r.id for r in chosen] for role, chosen in records.items()}
    query_side, train_side = SIDES[mask_side]
    with RunStore(path, write=True) as store:
        scores = score(ids["train"], ids["query"], store, InfluenceConfig(mask_side=mask_side, combine=combine))[0]
        query = store.sketches("query").read("sketch", ids["query"])[:, :, query_side]
        train = store.sketches("train").read("sketch", ids["train"])
    assert query.shape[1] == 4
    expected = _brute_force(query, train[:, :, train_side], combine)
    np.testing.assert_allclose(scores.motion_QN, expected, atol=2e-6)
    if mask_side == "query":
        whole_query = RunStore(path).sketches("query").read("sketch", ids["query"])[:, :, UNMASKED]
        np.testing.assert_allclose(
            scores.whole_QN, _brute_force(whole_query, train[:, :, UNMASKED], combine), atol=2e-6
        )
    assert np.array_equal(RunStore(path).read_scores("motion")[0], scores.motion_QN, equal_nan=True)


def test_estimators_differ_with_several_samples_and_agree_with_one():
    rng = np.random.default_rng(0)
    query, train = (rng.normal(size=(n, 3, 64)).astype(np.float32) for n in (2, 9))
    train[:, 1] *= 30
    several = [cosine_scores(query, train, how) for how in ("mean-cosine", "concat", "mean-sketch")]
    for one, other in itertools.combinations(several, 2):
        assert not np.allclose(one, other, atol=1e-2)
    single = [cosine_scores(query[:, :1], train[:, :1], how) for how in ("mean-cosine", "concat", "mean-sketch")]
    np.testing.assert_allclose(single, np.broadcast_to(single[0], (3, 2, 9)), atol=1e-6)
    ranked = cosine_scores(query[:, :1], train[:, :1], "mean-rank")
    assert np.array_equal(ranked.argsort(1), single[0].argsort(1))


@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-sketch"])
def test_adding_a_clip_changes_no_other_clips_combined_score(combine):
    rng = np.random.default_rng(1)
    query, train = (rng.normal(size=(n, 3, 128)).astype(np.float32) for n in (4, 65))
    whole = cosine_scores(query, train, combine)
    assert np.array_equal(cosine_scores(query, train[:64], combine), whole[:, :64])


def test_single_samples_scores_are_at_hand(whole, records):
    ids = {role: [r.id for r in chosen] for role, chosen in records.items()}
    store = RunStore(whole)
    scores = sample_scores(ids["train"], ids["query"], store, InfluenceConfig())
    assert scores.scores_SQN.shape == (4, 2, len(ids["train"]))
    assert scores.samples == samples_of((T, 300.0), (0, 1))
    for s, sample in enumerate(scores.samples):
        query = store.sketches("query", [sample]).read("sketch", ids["query"])[:, :, MASKED]
        train = store.sketches("train", [sample]).read("sketch", ids["train"])[:, :, MASKED]
        expected = cosine_scores(query, train)
        np.testing.assert_allclose(scores.scores_SQN[s], expected, atol=1e-6)
    some = sample_scores(ids["train"], ids["query"], store, InfluenceConfig(noises=(1,)))
    assert np.array_equal(some.scores_SQN, scores.scores_SQN[[1, 3]], equal_nan=True)


def test_one_sample_that_fails_says_nothing_of_the_others(tmp_path, records, make, monkeypatch):
    real = BatchedGradients.sketches

    def refuse(self, tasks):
        if any(task.timestep == 300.0 for task in tasks):
            raise ClipError("gradient", "nonfinite_gradient", "the loss is nan")
        return real(self, tasks)

    monkeypatch.setattr(BatchedGradients, "sketches", refuse)
    chosen = records["train"][:2]
    report = _run(tmp_path / "r.zarr", chosen, make((T, 300.0)))
    assert report.codes == {"nonfinite_gradient": 2}
    sketches = RunStore(tmp_path / "r.zarr").sketches("train")
    assert sketches.status(chosen[0].id) == Status.FAILED
    assert sketches.read("message", [chosen[0].id])[0] == "the loss is nan"
    assert RunStore(tmp_path / "r.zarr").sketches("train", [Sample(T, 0)]).status(chosen[0].id) == Status.DONE
    monkeypatch.setattr(BatchedGradients, "sketches", real)
    assert _run(tmp_path / "r.zarr", chosen, make((T, 300.0))).computed == 0
    again = _run(tmp_path / "r.zarr", chosen, make((T, 300.0)), retry_failed=True)
    assert again.status == {"done": 2}
    assert _run(tmp_path / "r.zarr", chosen, make((T, 500.0))).status == {"done": 2}


def test_the_duplicate_is_the_same_clip_for_every_sample_whatever_the_order(tmp_path, records, make):
    copy = tmp_path / "copy.mp4"
    shutil.copy2(records["train"][0].path, copy)
    chosen = [records["train"][0], ClipRecord("copy", copy, records["train"][0].caption)]
    _run(tmp_path / "r.zarr", chosen, make())
    report = _run(tmp_path / "r.zarr", chosen[::-1], make((T, 300.0)))
    assert report.codes == {"duplicate_clip": 1}
    sketches = RunStore(tmp_path / "r.zarr").sketches("train")
    assert sketches.status(chosen[0].id) == Status.DONE
    assert sketches.status("copy") == Status.FAILED


def test_a_file_that_changed_between_two_samples_is_not_scored(tmp_path, records, make):
    """One of its sketches is of another clip: the gradient step must bring them together first."""
    path = tmp_path / "r.zarr"
    clip = tmp_path / "clip.mp4"
    shutil.copy2(records["train"][0].path, clip)
    train = [ClipRecord("clip", clip, "a caption")]
    _run(path, records["query"], make((T, 300.0)), "query")
    _run(path, train, make())
    shutil.copy2(records["train"][1].path, clip)
    _run(path, train, make((300.0,)))
    queries = [r.id for r in records["query"]]
    with RunStore(path, write=True) as store:
        with pytest.raises(StoreError, match="1 of 1 training clips have no gradients yet"):
            score(["clip"], queries, store, InfluenceConfig(timesteps=(T, 300.0)))
        compute_sketch_table(train, store, make((T, 300.0)), "train")
        score(["clip"], queries, store, InfluenceConfig(timesteps=(T, 300.0)))


def test_asking_twice_for_the_same_sample_counts_once():
    assert samples_of((T, T), (0, 0, 1)) == [Sample(T, 0), Sample(T, 1)]
