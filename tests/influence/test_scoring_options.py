"""``center`` and ``kernel`` through the store, the command line and the operator's form."""

import numpy as np
import pytest
from click.testing import CliRunner

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import InfluenceConfig, merge
from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.cosine import SIDES, cosine_scores
from motive_fo.influence.preconditioner import Moments, Preconditioner
from motive_fo.influence.stability import stability
from motive_fo.pipeline.scoring import sample_scores, score
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status

DIMENSION = 16
SAMPLES = samples_of((750.748, 300.0), (0,))
COLUMNS = {"sketch": Column("float32", (2, DIMENSION)), "norm": Column("float64", (2,))}
TRAIN = [f"clip{n}" for n in range(25)]
QUERIES = ["wanted", "other"]
STATIC = "clip3"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    with RunStore(tmp_path_factory.mktemp("store") / "run.zarr", write=True) as opened:
        for role, ids in (("train", TRAIN), ("query", QUERIES)):
            tables = opened.sketches(role, SAMPLES, COLUMNS, {"model": "none"})
            for table in tables.tables.values():
                for clip_id in ids:
                    sketch = (1 + rng.normal(size=(2, DIMENSION))).astype(np.float32) * np.float32(rng.uniform(1, 9))
                    still = clip_id == STATIC
                    if still:
                        sketch[MASKED] = np.nan
                    state = Status.STATIC if still else Status.DONE
                    table.put(Row(clip_id, state, content="x", values={"sketch": sketch, "norm": np.ones(2)}))
            tables.flush()
        yield opened


def _expected(store, config, side):
    query_side, train_side = SIDES[side]
    query, train = (store.sketches(role).read("sketch", ids) for role, ids in (("query", QUERIES), ("train", TRAIN)))
    merged = config.combine == "mean-sketch"
    moments = {}
    for each in {query_side, train_side}:
        moments[each] = Moments(len(SAMPLES), DIMENSION, second=True, merged=merged)
        moments[each].add(train[:, :, each])
    made = Preconditioner.of(moments[query_side], moments[train_side], config.center, config.kernel, config.damping)
    return cosine_scores(*made.pair(query[:, :, query_side], train[:, :, train_side]), config.combine)


@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-sketch", "mean-rank"])
@pytest.mark.parametrize(
    ("center", "kernel"), [("mean", "identity"), ("none", "gauss-newton"), ("mean", "gauss-newton")]
)
@pytest.mark.parametrize("side", ["both", "query"])
def test_a_run_is_scored_in_blocks_as_all_at_once(store, monkeypatch, combine, center, kernel, side):
    monkeypatch.setattr("motive_fo.pipeline.scorable._BLOCK_SKETCHES", 14)  # seven clips at once
    config = InfluenceConfig(combine=combine, center=center, kernel=kernel, mask_side=side, damping=0.3)
    scores = score(TRAIN, QUERIES, store, config)[0]
    np.testing.assert_allclose(scores.motion_QN, _expected(store, config, side), atol=1e-6)
    np.testing.assert_allclose(scores.whole_QN, _expected(store, config, "none"), atol=1e-6)
    assert np.isnan(scores.motion_QN[:, TRAIN.index(STATIC)]).all() == (side == "both")
    assert np.isfinite(scores.whole_QN).all()
    assert np.array_equal(store.read_scores("motion")[0], scores.motion_QN, equal_nan=True)


def test_the_default_is_the_plain_cosine_to_the_last_bit(store):
    scores = score(TRAIN, QUERIES, store, InfluenceConfig())[0]
    query, train = (store.sketches(role).read("sketch", ids) for role, ids in (("query", QUERIES), ("train", TRAIN)))
    assert np.array_equal(scores.motion_QN, cosine_scores(query[:, :, MASKED], train[:, :, MASKED]), equal_nan=True)
    assert np.array_equal(scores.whole_QN, cosine_scores(query[:, :, UNMASKED], train[:, :, UNMASKED]))


def test_single_samples_are_changed_as_the_run_is(store):
    """The report's stability is that of the scores the run has."""
    config = InfluenceConfig(center="mean", kernel="gauss-newton")
    each = sample_scores(TRAIN, QUERIES, store, config)
    np.testing.assert_allclose(each.scores_SQN.mean(0), score(TRAIN, QUERIES, store, config)[0].motion_QN, atol=1e-6)
    plain = sample_scores(TRAIN, QUERIES, store, InfluenceConfig())
    assert stability(each.scores_SQN).spearman != stability(plain.scores_SQN).spearman


def test_too_few_clips_to_centre_by_are_refused(store):
    with pytest.raises(StoreError, match="1 training clips have the gradients that center mean needs"):
        score([TRAIN[0], STATIC], QUERIES, store, InfluenceConfig(center="mean"))
    score([TRAIN[0], STATIC], QUERIES, store, InfluenceConfig(kernel="gauss-newton"))


@pytest.mark.parametrize("damping", [0, -1, float("inf"), float("nan")])
def test_damping_must_be_a_positive_number(damping):
    with pytest.raises(ConfigError, match=r"influence\.damping"):
        merge(InfluenceConfig(), {"damping": damping}, "influence")


def test_command_line_and_form_have_the_options():
    from motive_fo_cli.main import main
    from motive_fo_plugin.forms import Form
    from motive_fo_plugin.operators.compute import ScoreInfluence

    text = " ".join(CliRunner().invoke(main, ["influence", "--help"]).output.split())
    for option in ("--center [none|mean]", "--kernel [identity|gauss-newton]", "--damping FLOAT"):
        assert option in text
    form = Form({})
    form.settings(ScoreInfluence.sections[0], advanced=True)
    shown = form.inputs.to_json()["properties"]
    assert shown["center"]["default"] == "none"
    assert shown["kernel"]["default"] == "identity"
    assert shown["damping"]["default"] == 0.1
