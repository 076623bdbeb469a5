"""The benchmark's own parts: the corpus of objects, trainings, the losses after them, the sets that are compared."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.attribution import corpus as corpora
from benchmarks.attribution import counterfactual, lds, losses, plots, tail_patch, training
from benchmarks.attribution.bench import BenchSetting, open_bench
from benchmarks.attribution.corpus import GALLERY, OBJECTS, REPORT, TUNE, render_corpus
from benchmarks.attribution.losses import MOTION, PLAIN, query_losses, training_losses
from benchmarks.attribution.training import Recipe, captions, errors, train
from motive_fo.attribution.loss import motion_weighted_loss
from motive_fo.influence.selection import budget_count
from motive_fo.quality.intervals import Bootstrap

SMALL = BenchSetting(scale=0.04, tune=1, report=1, recipe=Recipe(steps=3, batch=4))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return open_bench(tmp_path_factory.mktemp("cache"), "objects", 0, SMALL)


def silent(what, done, count):
    pass


# --- the corpus -------------------------------------------------------------------------------------------------------


def test_planted_clips_have_the_look_of_a_query_and_another_motion():
    plans = corpora._object_plans(1.0, 2, 5, 3)
    planted = [plan for plan in plans[GALLERY] if plan.like is not None]
    assert 15 <= len(planted) <= 45
    for plan in planted:
        role, place = plan.like
        query = plans[role][place]
        assert plan.motion != query.motion
        for name in ("seed", "background", "shape", "texture", "colour", "size", "x", "y"):
            assert getattr(plan.scene, name) == getattr(query.scene, name)
    assert all(plan.like is None for role in (TUNE, REPORT) for plan in plans[role])


def test_looks_and_places_do_not_tell_the_motion():
    rng = np.random.default_rng(0)
    drawn = {motion: [corpora.object_scene(rng, motion) for _ in range(300)] for motion in OBJECTS}
    assert all(each.action == motion and each.camera == "fixed" for motion, some in drawn.items() for each in some)
    for name in ("x", "y", "ground"):
        means = [np.mean([getattr(each, name) for each in some]) for some in drawn.values()]
        assert np.ptp(means) < 0.06
    for name in ("shape", "background"):
        shares = [np.mean([getattr(each, name) == "star" for each in some]) for some in drawn.values()]
        assert np.ptp(shares) < 0.12


def test_a_second_object_moves_beside_the_first_and_leaves_it_as_it_is():
    plan = next(each for each in corpora._object_plans(1.0, 1, 1, 0)[GALLERY] if each.beside is not None)
    both, alone = corpora._frames(plan), corpora._rendered(plan.scene)
    empty = corpora._rendered(replace(plan.scene, action="still", x=9.0))
    first = (alone != empty).any(-1)
    assert first.any()
    assert np.array_equal(both[first], alone[first])
    assert (both != alone).any()
    assert plan.beside.action != plan.scene.action


def test_a_corpus_is_rendered_once_for_the_same_arguments(tmp_path, monkeypatch):
    asked = {"kind": "objects", "scale": 0.04, "tune": 1, "report": 1, "seed": 0}
    made = render_corpus(tmp_path, **asked)
    assert made.motions[GALLERY].tolist() == [0, 1, 2, 2, 3, 4, 4, 5, 6]
    assert made.relevant(REPORT).sum(1).tolist() == [1, 1, 2, 1, 2, 1]
    assert made.planted[REPORT].shape == (6, 9)
    rendered = []
    real = corpora.render
    monkeypatch.setattr(corpora, "render", lambda *a, **k: rendered.append(1) or real(*a, **k))
    again = render_corpus(tmp_path, **asked)
    assert not rendered
    assert again.records == made.records
    assert np.array_equal(again.pixels[GALLERY], made.pixels[GALLERY])
    other = render_corpus(tmp_path, **asked | {"seed": 1})
    assert rendered
    assert not np.array_equal(other.pixels[GALLERY], made.pixels[GALLERY])


# --- training ---------------------------------------------------------------------------------------------------------


def _weights(model):
    return torch.cat([each.detach().flatten() for each in model.network.parameters()])


def test_a_training_repeats_and_its_result_is_the_mean_of_the_last_steps(bench):
    recipe = Recipe(steps=4, batch=3, averaged=0.5)
    before = _weights(bench.base)
    x0 = bench.latents[GALLERY]
    model, kept = train(bench.base, x0, recipe, 5, keep=(3, 4))
    again, _ = train(bench.base, x0, recipe, 5)
    assert torch.equal(_weights(model), _weights(again))
    assert not torch.equal(_weights(model), _weights(train(bench.base, x0, recipe, 6)[0]))
    assert torch.allclose(_weights(model), (_weights(kept[3]) + _weights(kept[4])) / 2, atol=1e-7)
    assert torch.equal(_weights(bench.base), before)


def test_a_step_spreads_its_noise_levels_and_clips_come_equally_often():
    recipe = Recipe(steps=9, batch=8)
    x0 = torch.zeros(12, 1, 1, 1, 1)
    batches = [training._drawn(step, x0, recipe, 1) for step in range(9)]
    count = np.bincount(np.concatenate([each.index_B for each in batches]), minlength=12)
    assert count.tolist() == [6] * 12
    for each in batches:
        s_B = each.timestep_B.double() / 1000
        share_B = torch.special.ndtr(torch.logit(s_B / (3 - 2 * s_B)))  # the level's place in its distribution
        assert sorted((share_B * 8).floor().int().tolist()) == list(range(8))


def test_training_lowers_the_loss_of_what_is_trained_on(bench):
    x0 = bench.latents[GALLERY][:4]
    model, _ = train(bench.base, x0, Recipe(steps=12, batch=4, learning_rate=1e-3), 0)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    level, condition = torch.full((4,), 500.0), captions(bench.base, 4)
    with torch.no_grad():
        after, before = (float(errors(m, x0, noise, level, condition).mean()) for m in (model, bench.base))
    assert after < 0.95 * before


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_of_queries_are_the_products_loss_clip_by_clip(bench):
    found_2Q = query_losses(bench, bench.base)
    x0, mask = (torch.cat([each[role] for role in (TUNE, REPORT)]) for each in (bench.latents, bench.masks))
    assert found_2Q.shape == (2, 12)
    condition = bench.base.encode_caption("a clip")
    for q in (0, 7):
        sums = [0.0, 0.0]
        for draw in range(8):
            noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1_000_000 + draw))[q : q + 1]
            noised = bench.base.noise(x0[q : q + 1], noise, losses.TIMESTEPS[draw % 4])
            with torch.no_grad():
                made = bench.base.predict(noised.x_t, noised.timestep, condition)
            sums[MOTION] += float(motion_weighted_loss(made, noised.target, bench.base.arrange_mask(mask[q]))) / 8
            sums[PLAIN] += float(motion_weighted_loss(made, noised.target)) / 8
        assert found_2Q[:, q] == pytest.approx(sums, rel=1e-4)


def test_a_stopped_measurement_goes_on_and_trains_nothing_twice(bench, monkeypatch):
    sets = [np.arange(0, 5), np.arange(3, 8)]
    recipe = Recipe(steps=1, batch=2)
    trained = []
    real = losses.train

    def stops(*args, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(1)
        return real(*args, **options)

    monkeypatch.setattr(losses, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        training_losses(bench, "stopped", sets, 2, recipe, silent)
    monkeypatch.setattr(losses, "train", lambda *a, **k: trained.append(1) or real(*a, **k))
    resumed = training_losses(bench, "stopped", sets, 2, recipe, silent)
    assert len(trained) == 4
    assert resumed.shape == (2, 12, 2, 2)
    straight = training_losses(bench, "straight", sets, 2, recipe, silent)
    assert np.array_equal(resumed, straight)
    assert len(trained) == 8
    assert not np.array_equal(resumed[..., 0, 0], resumed[..., 1, 0])
    assert not np.array_equal(resumed[..., 0], resumed[..., 1])
    # another recipe, or other clips, are other trainings
    training_losses(bench, "stopped", sets[:1], 1, replace(recipe, learning_rate=1e-5), silent)
    assert len(trained) == 9


def test_an_open_bench_holds_what_it_was_made_with(bench):
    again = open_bench(bench.folder.parent, "objects", 0, SMALL)
    assert torch.equal(_weights(again.model), _weights(bench.model))
    assert [each.step for each in again.checkpoints] == [0, 1, 2, 3]
    assert again.model.identity() == bench.model.identity()
    assert not torch.equal(_weights(again.model), _weights(again.base))
    assert not torch.equal(_weights(again.untrained), _weights(again.base))
    assert json.loads((bench.folder / "setting.json").read_text())["scale"] == 0.04
    for role in (GALLERY, TUNE, REPORT):
        assert len(bench.latents[role]) == len(bench.masks[role]) == len(bench.corpus.records[role])
        assert 0 <= bench.masks[role].min() <= bench.masks[role].max() <= 1


# --- the sets that are compared ---------------------------------------------------------------------------------------


def test_a_motions_sets_are_the_best_and_worst_by_its_own_tuning_queries(bench):
    clips = len(bench.corpus.records[GALLERY])
    rng = np.random.default_rng(0)
    names = ("gradient, mask query, 1 t", "gradient, mask none, 1 t", counterfactual.PAPER, "HOOF")
    scores = {name: {TUNE: rng.normal(size=(6, clips))} for name in names}
    made = counterfactual._choices(bench, scores, names[0], names[1])
    size = budget_count(0.1, clips)
    for motion in range(6):
        order = np.argsort(scores[names[0]][TUNE][motion])
        assert made[counterfactual.TOP](motion).tolist() == sorted(order[-size:].tolist())
        assert made["bottom 10 %"](motion).tolist() == sorted(order[:size].tolist())
        free = np.argsort(scores[names[1]][TUNE][motion])
        assert made["top 10 % without mask"](motion).tolist() == sorted(free[-size:].tolist())
    assert len(made["most motion 10 %"](0)) == size


def test_the_difference_of_two_sets_is_drawn_over_queries_and_seeds():
    rng = np.random.default_rng(0)
    difference_QR = rng.normal(size=(7, 5)) + np.arange(5)
    how = Bootstrap(resamples=300)
    found = counterfactual._difference(difference_QR, how)
    assert found.value == pytest.approx(difference_QR.mean())
    over_queries = difference_QR.mean(1)[how.draws(7, 0)].mean(1)
    assert found.high - found.low > 2 * (np.quantile(over_queries, 0.975) - np.quantile(over_queries, 0.025))


def test_steps_on_clips_are_taken_once_and_leave_the_model_alone(bench, monkeypatch):
    before = _weights(bench.model)
    clips = np.asarray([0, 5])
    small = replace(tail_patch.STEP, timesteps=(400.0,))
    monkeypatch.setattr(tail_patch, "STEP", small)
    told = []
    fall_QNR = tail_patch.falls(bench, clips, lambda what, done, count: told.append(count))
    assert told == [2, 2]
    assert fall_QNR.shape == (6, 2, 2)
    assert (fall_QNR != 0).all()
    assert torch.equal(_weights(bench.model), before)
    more = tail_patch.falls(bench, np.asarray([0, 5, 8]), lambda what, done, count: told.append(count))
    assert told == [2, 2, 1]
    assert np.array_equal(more[:, :2], fall_QNR)


def test_cells_of_a_table_become_points_of_a_plot():
    assert plots.point("-0.31 (-0.40 to 0.02)") == (-0.31, -0.40, 0.02)
    assert plots.point("0.81") == (0.81, None, None)
    with pytest.raises(ValueError, match="no figure"):
        plots.point("n/a")
    assert plots.short("untrained model, mask both, gauss-newton, 3 t x 4 noises") == "untrained, both, GN, 3x4"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tables_of_trainings_are_made_from_few_clips_and_repeat_from_the_cache(tmp_path):
    told = []
    tables = (
        lambda: lds.run(tmp_path, lds.FAST, lambda *what: told.append(what)),
        lambda: counterfactual.run(tmp_path, counterfactual.FAST, lambda *what: told.append(what)),
        lambda: tail_patch.run(tmp_path, tail_patch.FAST, lambda *what: told.append(what)),
    )
    made = [table() for table in tables]
    trained = [what for what in told if "scores" not in what[0]]
    again = [table() for table in tables]
    assert [what for what in told if "scores" not in what[0]] == trained
    for one, other in zip(made, again, strict=True):
        assert one.rows == other.rows
        assert one.goals == other.goals
    scored = {row["scores by"]: row for row in made[0].rows}
    assert {lds.TUNED, "random ids", "HOOF", "swapped masks", "noise ceiling"} <= set(scored)
    for row in (*made[0].rows, *made[2].rows):
        assert all(-1 <= plots.point(cell)[0] <= 1 for name, cell in row.items() if name != "scores by")
    sets = [row["trained on"] for row in made[1].rows]
    assert set(counterfactual.RIVALS) < set(sets)
    assert {what[0] for what in trained} > {"objects 0, lds matched", "objects 1, lds unmatched"}
