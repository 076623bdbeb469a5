"""The reference trainer on whole pipelines of diffusers with tiny random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motive_fo
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import plain
from motive_fo.dataset.sources import named_clips
from motive_fo.errors import ConfigError
from motive_fo.models.registry import load_model
from motive_fo.quality.clip_trainings import ClipTrainings, measured_timesteps, trial_config
from motive_fo.quality.losses import Example
from motive_fo.training.finetune import finetune_clips
from motive_fo.training.repeated import RepeatedTraining
from motive_fo.training.settings import FinetuneConfig
from tests.models.pipelines import CLIP

SPEC = {"start": 0.0, "crop": "center", **CLIP}
#: one clip at one noise level, again and again: a trainer that works drives this loss down
ONE = FinetuneConfig(
    steps=25, batch=1, warmup=0, learning_rate=3e-3, caption_dropout=0.0, lowest=749.0, highest=751.0, save_every=10
)


def _records(clips):
    return [record for record in named_clips(clips).records if "truncated" not in record.id]


def _network(name, **more):
    return load_model(name, "cpu", spec=None, **more).network


def test_the_whole_transformer_learns_and_loads_over_its_base(pipeline_folder, clips, tmp_path):
    base = pipeline_folder("wan")
    report = finetune_clips(_records(clips)[:1], tmp_path / "tuned", str(base), clip=SPEC, config=ONE)
    assert report.last_loss < 0.9 * report.first_loss
    before, after = _network(str(base)).state_dict(), _network(f"{base}+{tmp_path / 'tuned'}").state_dict()
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    short = _network(str(tmp_path / "tuned")).state_dict()  # the folder alone is a model too
    assert all(torch.equal(short[name], after[name]) for name in after)
    assert json.loads((tmp_path / "tuned" / "motive-model.json").read_text())["base"] == str(base)


def test_a_lora_changes_the_attention_alone_and_is_merged(pipeline_folder, clips, tmp_path):
    pytest.importorskip("peft")
    base = pipeline_folder("wan")
    config = FinetuneConfig(**{**plain(ONE), "lora": 4, "steps": 40, "learning_rate": 2e-2})
    report = finetune_clips(_records(clips)[:1], tmp_path / "lora", str(base), clip=SPEC, config=config)
    assert report.last_loss < report.first_loss
    before, after = _network(str(base)).state_dict(), _network(str(tmp_path / "lora")).state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith(".weight") and ".attn" in name for name in changed)
    # the LoRA by itself is what diffusers loads, and gives the merged weights
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(base)
    pipeline.load_lora_weights(tmp_path / "lora", weight_name="pytorch_lora_weights.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    fused = pipeline.transformer.state_dict()
    for name, value in after.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(pipeline_folder, clips, tmp_path):
    base, records = str(pipeline_folder("wan")), _records(clips)
    config = FinetuneConfig(steps=5, batch=2, save_every=2)

    def stop(label, done, total):
        if label == "train" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune_clips(records, tmp_path / "one", base, clip=SPEC, config=config, progress=stop)
    assert finetune_clips(records, tmp_path / "one", base, clip=SPEC, config=config).resumed_at == 2
    finetune_clips(records, tmp_path / "two", base, clip=SPEC, config=config)
    one, two = _network(str(tmp_path / "one")).state_dict(), _network(str(tmp_path / "two")).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ltx", "cogvideox", "hunyuanvideo"])
def test_other_families_train_and_generate(pipeline_folder, clips, tmp_path, kind):
    base = str(pipeline_folder(kind))
    config = FinetuneConfig(steps=2, batch=1)
    report = finetune_clips(_records(clips)[:2], tmp_path / "m", base, clip=SPEC, config=config)
    assert report.clips == 2
    before, after = _network(base).state_dict(), _network(report.folder).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_experts_are_trained_one_by_one_and_kept(pipeline_folder, clips, tmp_path):
    base, records = str(pipeline_folder("wan-experts")), _records(clips)[:1]
    with pytest.raises(ConfigError, match="two experts"):
        finetune_clips(records, tmp_path / "both", base, clip=SPEC, config=FinetuneConfig(steps=1, batch=1))
    high = FinetuneConfig(steps=1, batch=1, lowest=875.0)
    low = FinetuneConfig(steps=1, batch=1, highest=875.0)
    first = finetune_clips(records, tmp_path / "high", base, clip=SPEC, config=high)
    assert [path.name for path in Path(first.folder).glob("transformer*")] == ["transformer"]
    second = finetune_clips(records, tmp_path / "low", first.folder, clip=SPEC, config=low)
    assert sorted(path.name for path in Path(second.folder).glob("transformer*")) == ["transformer", "transformer_2"]
    kept = _network(second.folder, timesteps=(900.0,)).state_dict()
    earlier = _network(first.folder, timesteps=(900.0,)).state_dict()
    assert all(torch.equal(kept[name], earlier[name]) for name in kept)


@pytest.mark.slow
def test_clips_are_generated_by_the_tuned_pipeline(pipeline_folder, clips, tmp_path):
    base = str(pipeline_folder("wan"))
    tuned = finetune_clips(
        _records(clips)[:1], tmp_path / "m", base, clip=SPEC, config=FinetuneConfig(steps=1, batch=1)
    )
    size = {"frames": 9, "height": 64, "width": 64, "sampling_steps": 1}
    report = motive_fo.generate(["a red ball rolls"], tmp_path / "made", tuned.folder, config=size)
    assert (report.clips, report.failed) == (1, {})


def test_an_adapter_of_ones_own_is_left_to_its_own_trainer(clips, tmp_path):
    with pytest.raises(ConfigError, match="train it with its own trainer"):
        finetune_clips(_records(clips), tmp_path / "m", "tests.models.own_adapter:Own")


@pytest.mark.parametrize("lora", [None, 4])
def test_it_is_trained_again_and_again_from_the_same_weights(pipeline_folder, clips, lora):
    """In memory, for trials: the whole transformer or a LoRA, and losses that only the training changes."""
    if lora is not None:
        pytest.importorskip("peft")
    name, records = str(pipeline_folder("wan")), _records(clips)
    loaded = load_model(name, "cpu")
    given = FinetuneConfig(steps=2, batch=1, learning_rate=1e-2, lora=lora)
    config = trial_config(loaded, (750.0,), given)
    assert (config.warmup, config.caption_dropout) == (0, 0.0)
    shape = loaded.latent_shape(ClipSpec(**SPEC))
    condition = loaded.encode_caption("a clip")
    noise = torch.Generator().manual_seed(0)
    made = {n: Example(torch.randn(shape, generator=noise), condition) for n in range(2)}
    repeated = RepeatedTraining(name, loaded, config)
    trainings = ClipTrainings(repeated, config, (500.0,), (7,), {n: (records[n], made[n]) for n in made}, made)
    both, one = np.arange(2), np.array([0])
    before = trainings.losses(repeated.model, both)
    first = trainings.losses(trainings.train(one, 0), both)
    assert (first != before).all()
    assert (trainings.losses(trainings.train(one, 1), both) != first).all()
    np.testing.assert_array_equal(trainings.losses(trainings.train(one, 0), both), first)
    repeated.restore()
    np.testing.assert_array_equal(trainings.losses(repeated.model, both), before)


def test_of_two_experts_the_one_that_was_scored_is_tried(pipeline_folder):
    name = str(pipeline_folder("wan-experts"))
    for timestep, ends in ((950.0, (875.0, 1000.0)), (300.0, (0.0, 875.0))):
        config = trial_config(load_model(name, "cpu", timesteps=(timestep,)), (timestep,), FinetuneConfig())
        assert (config.lowest, config.highest) == ends
        assert all(ends[0] <= t <= ends[1] and t != timestep for t in measured_timesteps(config, (timestep,)))
