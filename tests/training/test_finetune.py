"""Fine-tuning the embedded model: it learns, goes on where it was stopped, and is a model afterwards."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

import motive_fo
from motive_fo.errors import ConfigError, InputError
from motive_fo.models.finetuned import MARK, settle_name
from motive_fo.models.registry import load_model, model_card
from motive_fo.training import loop
from motive_fo.training.loop import Examples, draws, train, trainable
from motive_fo.training.repeated import RepeatedTraining
from motive_fo.training.settings import FinetuneConfig

QUICK = {"steps": 6, "batch": 2, "warmup": 0, "learning_rate": 1e-3, "save_every": 2}


@pytest.fixture(scope="module")
def tuned(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tuned"
    return motive_fo.finetune(clips, folder, config=QUICK), folder


def _weights(folder):
    return dict(load_model(str(folder), "cpu").network.state_dict())


def test_every_clip_is_shown_equally_often_whatever_the_batch():
    for batch, steps in ((3, 10), (8, 5), (1, 14)):
        config = FinetuneConfig(batch=batch)
        shown = Counter(draw.index for step in range(steps) for draw in draws(step, 7, config))
        assert max(shown.values()) - min(shown[n] for n in range(7)) <= 1


def test_what_a_step_shows_depends_on_seed_and_place_alone():
    """So sets of one size are compared at the same noise, and a stopped training ends as an unstopped one."""
    config = FinetuneConfig(batch=4)
    assert list(draws(5, 7, config)) == list(draws(5, 7, config))
    assert list(draws(5, 7, config)) != list(draws(5, 7, FinetuneConfig(batch=4, seed=1)))
    other = list(draws(5, 20, config))
    assert [d.timestep for d in draws(5, 7, config)] == [d.timestep for d in other]


def test_noise_levels_have_their_range_and_shift():
    def levels(**given):
        config = FinetuneConfig(batch=500, **given)
        return np.array([draw.timestep for draw in draws(0, 10, config)])

    assert np.median(levels(shift=3.0)) > np.median(levels(shift=1.0)) + 100
    expert = levels(lowest=875.0)
    assert expert.min() >= 875
    assert expert.max() <= 1000
    captioned = [d.captioned for d in draws(0, 10, FinetuneConfig(batch=2000, caption_dropout=0.25))]
    assert np.mean(captioned) == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("given", [{}, {"lowest": 875.0}, {"highest": 875.0}, {"shift": 1.0}])
def test_every_step_sees_the_whole_schedule(given):
    """One level of each of as many equally likely parts: two steps differ less than two sets of any levels."""
    config = FinetuneConfig(batch=16, **given)
    levels = np.array([[draw.timestep for draw in draws(step, 10, config)] for step in range(200)])
    assert levels.min() >= config.lowest
    assert levels.max() <= config.highest
    apart = np.random.default_rng(0).choice(levels.ravel(), levels.shape)
    assert levels.mean(1).std() < apart.mean(1).std() / 2
    assert np.quantile(levels, 0.5) == pytest.approx(np.quantile(levels[:, 0], 0.5), abs=60), "any clip may have any"


def test_a_trial_keeps_the_mean_of_the_second_half_of_its_weights():
    config = FinetuneConfig(steps=5, batch=2, warmup=0, caption_dropout=0.0, learning_rate=1e-3, device="cpu")
    model, other = load_model("tiny", "cpu"), load_model("tiny", "cpu")
    generator = torch.Generator().manual_seed(0)
    shape = model.latent_shape(model.card.default_clip)
    latents = [torch.randn(shape, generator=generator) for _ in range(3)]
    examples = Examples(list("abc"), latents, ["", "", ""], {"": model.encode_caption("")})
    _, trained = trainable("tiny", other, config)
    weights = []
    train(other, trained, examples, config, after=lambda step: weights.append(trained[0].detach().clone()))
    repeated = RepeatedTraining("tiny", model, config)
    first = next(iter(model.network.parameters())).detach().clone()
    for _ in range(2):  # from the first weights every time
        made = next(iter(repeated.train(examples, config.seed).network.parameters()))
        assert torch.allclose(made, torch.stack(weights[2:]).mean(0), atol=1e-7)
        assert not torch.equal(made, first)


def test_only_the_transformer_changes_and_all_of_it(tuned):
    _, folder = tuned
    before, after = load_model("tiny", "cpu"), load_model(str(folder), "cpu")
    for name, module in before._parts.named_children():
        same = [
            torch.equal(one, other)
            for one, other in zip(
                module.state_dict().values(), getattr(after._parts, name).state_dict().values(), strict=True
            )
        ]
        assert all(same) if name != "transformer" else not any(same), name


def test_the_report_says_what_was_trained_on(tuned, clips):
    report, folder = tuned
    assert (report.clips, report.steps, report.passes, report.folder) == (4, 6, 3.0, str(folder))
    ((name, why),) = report.failed.items()
    assert "truncated" in name
    assert why.startswith("decode_failed")
    mark = json.loads((folder / MARK).read_text())
    assert len(mark["losses"]) == 6
    assert len(mark["clips"]) == 4
    assert mark["source"] == "train"


def test_the_loss_falls_on_few_clips(clips, tmp_path):
    config = {"steps": 40, "batch": 2, "learning_rate": 2e-3, "caption_dropout": 0.0, "lowest": 600.0, "highest": 900.0}
    report = motive_fo.finetune(clips, tmp_path / "learned", config=config)
    assert report.last_loss < 0.8 * report.first_loss


def test_a_stopped_training_goes_on_and_ends_as_an_unstopped_one(tuned, clips, tmp_path):
    report, folder = tuned

    def stop(label, done, total):
        if label == "train" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        motive_fo.finetune(clips, tmp_path / "again", config=QUICK, progress=stop)
    assert not (tmp_path / "again").exists(), "complete or absent"
    again = motive_fo.finetune(clips, tmp_path / "again", config=QUICK)
    assert again.resumed_at == 4
    whole, stopped = _weights(folder), _weights(tmp_path / "again")
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())
    assert again.last_loss == report.last_loss
    assert [path.name for path in tmp_path.iterdir()] == ["again"], "nothing is left beside it"


def test_what_was_given_up_is_not_gone_on_with(clips, tmp_path):
    def stop(label, done, total):
        if label == "train" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        motive_fo.finetune(clips, tmp_path / "x", config=QUICK, progress=stop)
    assert motive_fo.finetune(clips, tmp_path / "x", config={**QUICK, "seed": 3}).resumed_at == 0


def test_the_same_call_again_changes_nothing_and_another_is_refused(tuned, clips):
    _, folder = tuned
    stamp = (folder / MARK).stat().st_mtime_ns
    assert motive_fo.finetune(clips, folder, config=QUICK).unchanged
    with pytest.raises(InputError, match=r"other clips or settings.*--overwrite"):
        motive_fo.finetune(clips, folder, config={**QUICK, "steps": 7})
    assert (folder / MARK).stat().st_mtime_ns == stamp


def test_overwrite_replaces_and_foreign_folders_are_safe(clips, tmp_path):
    config = {"steps": 1, "batch": 1}
    motive_fo.finetune(clips, tmp_path / "m", config=config)
    assert motive_fo.finetune(clips, tmp_path / "m", config={**config, "seed": 2}, overwrite=True).steps == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no model of motive finetune"):
        motive_fo.finetune(clips, tmp_path / "mine", config=config, overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_fine_tuned_folder_is_a_model_everywhere(tuned, clips, tmp_path):
    _, folder = tuned
    assert model_card(str(folder)) == model_card("tiny")
    model = load_model(str(folder), "cpu")
    assert model.identity()["weights_sha256"] != load_model("tiny", "cpu").identity()["weights_sha256"]
    assert model.sample("a red ball", seed=1).shape == (17, 64, 64, 3)
    next_one = motive_fo.finetune(clips, tmp_path / "next", str(folder), config={"steps": 1, "batch": 1})
    assert settle_name(next_one.folder)[0] == "tiny"


def test_damaged_folders_and_bases_that_are_gone_say_so(tmp_path):
    for text, problem in (("{", "cannot be read"), ("{}", "is not what motive finetune writes")):
        (tmp_path / MARK).write_text(text)
        with pytest.raises(InputError, match=problem):
            load_model(str(tmp_path))
    for base in ("/no/such/place", "some.module:Adapter"):  # a base is never code
        (tmp_path / MARK).write_text(json.dumps({"format": "motive-fo model", "base": base}))
        with pytest.raises(InputError, match="which is not there"):
            model_card(str(tmp_path))


@pytest.mark.parametrize(
    ("model", "config", "problem"),
    [
        ("tiny", {"lora": 4}, "leave --lora out"),
        ("tiny", {"lowest": 900.0, "highest": 100.0}, "choose a wider range"),
        ("tiny", {"no_such": 1}, r"no such setting|unexpected"),
        ("no-such-model", {}, "unknown model"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(clips, tmp_path, model, config, problem):
    with pytest.raises((ConfigError, TypeError), match=problem):
        motive_fo.finetune(clips, tmp_path / "m", model, config=config)
    assert list(tmp_path.iterdir()) == []


def test_clips_of_which_none_can_be_used_are_refused(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of the 1 clips can be trained on: x\.mp4 not_video"):
        motive_fo.finetune(tmp_path / "bad", tmp_path / "m")


def test_a_loss_that_is_not_finite_stops_with_a_way_out(clips, tmp_path, monkeypatch):
    real = loop._loss
    monkeypatch.setattr(loop, "_loss", lambda *args: real(*args) * float("nan"))
    with pytest.raises(InputError, match="loss of step 0 is not finite"):
        motive_fo.finetune(clips, tmp_path / "m", config=QUICK)


def test_an_export_is_trained_on_as_it_was_scored(database, clips, tmp_path):
    """The clip specification is the manifest's; and the loop closes: the tuned model is attributed again."""
    import uuid

    from motive_fo.dataset.connect import fiftyone
    from motive_fo.dataset.sources import named_clips

    name = f"loop-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(clips, name)
    dataset = fiftyone().load_dataset(name)
    for n, sample in enumerate(dataset):
        if n == 0:
            sample.tags = ["query"]
            sample.save()
    short, flow = {"frames": 9}, {"estimator": "dis"}
    motive_fo.compute_gradients(name, clip=short, flow=flow)
    motive_fo.export(dataset.match_tags("train"), tmp_path / "out", config={"media": "reencode"})
    named = named_clips(tmp_path / "out")
    assert (named.clip["frames"], named.clip["start"], len(named.records)) == (9, 0.0, 3)
    report = motive_fo.finetune(tmp_path / "out", tmp_path / "model", config={"steps": 2, "batch": 1})
    assert json.loads((tmp_path / "model" / MARK).read_text())["clip"]["frames"] == 9
    motive_fo.compute_gradients(name, "round2", clip=short, flow=flow, attribution={"model": report.folder})
    motive_fo.score_influence(name, "round2")
    dataset.reload()
    one, two = (dataset.values(f"{run}.loss") for run in ("motive", "round2"))
    moved = [a != b for a, b in zip(one, two, strict=True) if a is not None]
    assert len(moved) >= 3
    assert all(moved)
    fiftyone().delete_dataset(name)
