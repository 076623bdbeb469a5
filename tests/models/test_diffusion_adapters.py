"""Each adapter does what its pipeline does: against the pipeline's own call, its own formulas, and plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motive_fo.attribution.gradients import MASKED, UNMASKED, attributed_parameters, clip_sketch, streaming
from motive_fo.attribution.loss import shared_noise
from motive_fo.attribution.projection import FastfoodProjection
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import AttributionConfig
from motive_fo.errors import ConfigError
from motive_fo.models.base import StagedModel, VideoGenerator
from motive_fo.models.registry import load_model, model_card

KINDS = ["wan", "wan-experts", "wan-per-token", "ltx", "cogvideox", "cogvideox-pairs", "hunyuanvideo"]
CAPTION = "a red ball rolls to the left"
TIMESTEP = 750.748


def spec_of(kind: str) -> ClipSpec:
    return ClipSpec(start=0, fps=8, frames=13 if kind == "cogvideox-pairs" else 9, height=64, width=64)


def frames_of(spec: ClipSpec, seed: int = 0) -> np.ndarray:
    shape = (spec.frames, spec.height, spec.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def loaded(pipeline_folder):
    kept = {}

    def load(kind):
        if kind not in kept:
            spec = spec_of(kind)
            kept[kind] = load_model(str(pipeline_folder(kind)), "cpu", timesteps=(TIMESTEP,), spec=spec)
        return kept[kind]

    return load


# --- the pipeline's own call ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_prediction_is_the_pipelines_own(loaded, kind):
    """At the latents and timesteps of a real sampling without guidance, the adapter predicts what the pipeline does."""
    model, spec = loaded(kind), spec_of(kind)
    pipeline = model.pipeline()
    seen, latents = [], []
    forward = type(model.network).forward

    def watch(network, *args, **kwargs):
        made = forward(network, *args, **kwargs)
        seen.append((network, kwargs["timestep"].clone(), made[0].clone()))
        return made

    def after(pipe, step, timestep, tensors):
        latents.append(tensors["latents"].clone())
        return {}

    start = torch.randn(model.latent_shape(spec), generator=torch.Generator().manual_seed(5))
    unpacked = start.shape
    if kind == "ltx":
        start = pipeline._pack_latents(start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.network), "forward", watch)
        pipeline(
            prompt=CAPTION, height=spec.height, width=spec.width, num_frames=spec.frames, num_inference_steps=4,
            guidance_scale=1.0, latents=start.clone(), output_type="latent", callback_on_step_end=after,
            **model.generation(spec) if kind == "ltx" else {},
        )  # fmt: skip
    assert len(seen) == len(latents) == 4
    condition = model.encode_caption(CAPTION)
    compared = 0
    for (network, timestep, expected), x in zip(seen, [start, *latents[:-1]], strict=True):
        if network is not model.network:  # the other expert
            continue
        level = timestep.flatten()[:1].float()
        if kind == "ltx":
            f, h, w = model.card.grid(spec)
            x = pipeline._unpack_latents(x, f, h, w)
            expected = pipeline._unpack_latents(expected, f, h, w)
        assert x.shape == unpacked
        torch.testing.assert_close(model.predict(x, level, condition), expected, rtol=1e-5, atol=1e-6)
        compared += 1
    assert compared >= (1 if kind == "wan-experts" else 4)


@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_what_the_pipelines_decoder_expects(loaded, kind):
    """The decoder's way back, by the pipeline's formulas, undoes what the adapter did to the encoder's mode."""
    model, spec = loaded(kind), spec_of(kind)
    frames = frames_of(spec)
    x0 = model.encode_frames(frames)
    assert tuple(x0.shape) == model.latent_shape(spec)
    assert x0.dtype == torch.float32
    assert not x0.requires_grad
    vae = model.pipeline().vae
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        z = vae.encode(video).latent_dist.mean
    config = vae.config
    if kind.startswith("wan"):
        back = x0 * torch.tensor(config.latents_std).view(1, -1, 1, 1, 1)
        back = back + torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1)
    elif kind == "ltx":
        back = x0 * vae.latents_std.view(1, -1, 1, 1, 1) / config.scaling_factor + vae.latents_mean.view(1, -1, 1, 1, 1)
    else:
        back = (x0.permute(0, 2, 1, 3, 4) if kind.startswith("cogvideox") else x0) / config.scaling_factor
    torch.testing.assert_close(back, z, rtol=1e-5, atol=1e-6)
    assert torch.equal(x0, model.encode_frames(frames))


@pytest.mark.parametrize("kind", KINDS)
def test_captions_are_what_the_pipelines_call_makes_of_them(loaded, kind):
    model = loaded(kind)
    pipeline = model.pipeline()
    condition = model.encode_caption(CAPTION)
    other = model.encode_caption("the camera pans over a static scene")
    assert not torch.equal(condition["embeds"], other["embeds"])
    with torch.no_grad():
        if kind == "hunyuanvideo":
            embeds, pooled, attend = pipeline.encode_prompt(CAPTION, device="cpu")
            assert torch.equal(condition["pooled"], pooled)
            assert torch.equal(condition["attend"], attend)
        else:
            length = {"max_sequence_length": 512} if kind.startswith("wan") else {}
            embeds, *_ = pipeline.encode_prompt(CAPTION, do_classifier_free_guidance=False, device="cpu", **length)
    assert torch.equal(condition["embeds"], embeds)
    assert torch.isfinite(model.encode_caption("")["embeds"]).all()


def test_cogvideox_noises_as_its_scheduler_does(loaded):
    model = loaded("cogvideox")
    scheduler = model.pipeline().scheduler
    x0, e = torch.randn(2, *model.latent_shape(spec_of("cogvideox")))
    for timestep, step in ((0.0, 0), (750.748, 751), (999.9, 999), (1000.0, 999)):
        noised, at = model.noise(x0, e, timestep), torch.tensor([step])
        torch.testing.assert_close(noised.x_t, scheduler.add_noise(x0, e, at))
        torch.testing.assert_close(noised.target, scheduler.get_velocity(x0, e, at))
        assert float(noised.timestep) == step


@pytest.mark.parametrize("kind", ["wan", "ltx", "hunyuanvideo"])
def test_the_others_noise_by_flow_matching(loaded, kind):
    model = loaded(kind)
    x0, e = torch.randn(2, *model.latent_shape(spec_of(kind)))
    noised = model.noise(x0, e, 250.0)
    torch.testing.assert_close(noised.x_t, 0.75 * x0 + 0.25 * e)
    torch.testing.assert_close(noised.target, e - x0)
    # the scheduler's own noising, where it knows the level
    scheduler = model.pipeline().scheduler
    scheduler.set_timesteps(sigmas=[0.9, 0.25], **({"mu": 0.7} if kind == "ltx" else {}))
    at, s = scheduler.timesteps[1:2], float(scheduler.sigmas[1])
    torch.testing.assert_close(model.noise(x0, e, 1000 * s).x_t, scheduler.scale_noise(x0, at, e), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="between 0"):
        model.noise(x0, e, 1000.5)


# --- loss and gradient ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_autograds(loaded, kind):
    """Against a re-computation that knows neither hooks nor streaming; the mask of one frame lies on that frame."""
    model, spec = loaded(kind), spec_of(kind)
    x0, condition = model.encode_frames(frames_of(spec)), model.encode_caption(CAPTION)
    grid = model.card.grid(spec)
    mask = np.random.default_rng(1).random(grid).astype(np.float32)
    projection = FastfoodProjection(dimension=128)
    with streaming(model.network, projection) as backward:
        sketch = clip_sketch(model, backward, x0, condition, mask, TIMESTEP, 3)
        again = clip_sketch(model, backward, x0, condition, mask, TIMESTEP, 3)
    assert np.array_equal(sketch.sketch_2D, again.sketch_2D)

    noised = model.noise(x0, shared_noise(tuple(x0.shape), 3), TIMESTEP)
    named = attributed_parameters(model.network)
    # elements of one latent cell: channels, wherever the layout has them
    cells = {"cogvideox": "bfchw"}.get(kind.removesuffix("-pairs"), "bcfhw")
    weight = torch.from_numpy(mask)
    for side, weights in ((UNMASKED, torch.ones_like(weight)), (MASKED, weight)):
        prediction = model.predict(noised.x_t, noised.timestep, condition)
        error = (prediction - noised.target) ** 2
        by_cell = error[0].mean(0 if cells == "bcfhw" else 1)
        loss = (by_cell * weights).sum() / weights.numel()
        gradients = torch.autograd.grad(loss, [parameter for _, parameter in named])
        assert loss.item() == pytest.approx(sketch.loss_2[side], rel=1e-5)
        norm = float(torch.sqrt(sum((g.double() ** 2).sum() for g in gradients)))
        assert norm == pytest.approx(sketch.norm_2[side], rel=1e-4)
        parts = {name: projection.project(name, g) for (name, _), g in zip(named, gradients, strict=True)}
        expected = projection.combine(parts).numpy()
        np.testing.assert_allclose(sketch.sketch_2D[side], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        unreached = [name for (name, _), g in zip(named, gradients, strict=True) if not g.any()]
        assert unreached == []


@pytest.mark.parametrize("kind", ["wan", "ltx", "cogvideox", "hunyuanvideo"])
def test_checkpointing_changes_no_sketch(pipeline_folder, loaded, kind):
    spec, plain = spec_of(kind), loaded(kind)
    saving = load_model(str(pipeline_folder(kind)), "cpu", checkpointing="on", spec=spec)
    assert saving.network.is_gradient_checkpointing
    assert not plain.network.is_gradient_checkpointing
    assert saving.identity() == plain.identity()
    x0, condition = plain.encode_frames(frames_of(spec)), plain.encode_caption(CAPTION)
    mask = np.random.default_rng(1).random(plain.card.grid(spec)).astype(np.float32)
    made = []
    for model in (plain, saving):
        with streaming(model.network, FastfoodProjection(dimension=128)) as backward:
            made.append(clip_sketch(model, backward, x0, condition, mask, TIMESTEP, 0).sketch_2D)
    np.testing.assert_allclose(made[0], made[1], rtol=1e-4, atol=1e-6 * np.abs(made[0]).max())


@pytest.mark.parametrize("kind", ["wan", "hunyuanvideo"])
def test_bfloat16_keeps_what_diffusers_keeps_in_float32(pipeline_folder, loaded, kind):
    spec = spec_of(kind)
    half = load_model(str(pipeline_folder(kind)), "cpu", precision="bfloat16", spec=spec)
    dtypes = {parameter.dtype for parameter in half.network.parameters()}
    assert dtypes == ({torch.bfloat16, torch.float32} if kind == "wan" else {torch.bfloat16})
    assert half.identity()["precision"] == "bfloat16"
    x0, condition = half.encode_frames(frames_of(spec)), half.encode_caption(CAPTION)
    assert condition["embeds"].dtype == torch.bfloat16
    assert torch.equal(x0, loaded(kind).encode_frames(frames_of(spec)))  # the autoencoder stays exact
    with streaming(half.network, FastfoodProjection(dimension=512)) as backward:
        rough = clip_sketch(half, backward, x0, condition, None, TIMESTEP, 0).sketch_2D[UNMASKED]
    whole = loaded(kind)
    with streaming(whole.network, FastfoodProjection(dimension=512)) as backward:
        exact = clip_sketch(whole, backward, x0, whole.encode_caption(CAPTION), None, TIMESTEP, 0).sketch_2D[UNMASKED]
    cosine = rough @ exact / np.linalg.norm(rough) / np.linalg.norm(exact)
    assert 0.98 < cosine < 0.999999


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_outline_is_the_network_without_weights(pipeline_folder, loaded, kind):
    fresh = load_model(str(pipeline_folder(kind)), "cpu", timesteps=(TIMESTEP,))
    assert isinstance(fresh, StagedModel)
    assert isinstance(fresh, VideoGenerator)
    outline = fresh.outline()
    assert {parameter.device.type for parameter in outline.parameters()} == {"meta"}
    real = [(name, parameter.shape) for name, parameter in attributed_parameters(loaded(kind).network)]
    assert [(name, parameter.shape) for name, parameter in attributed_parameters(outline)] == real


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_a_clip_and_follows_its_seed(loaded, kind):
    model, spec = loaded(kind), spec_of(kind)
    one, same, other = (model.sample(CAPTION, spec, seed=seed, steps=2) for seed in (1, 1, 2))
    assert one.shape == (spec.frames, spec.height, spec.width, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["wan-experts", "ltx", "cogvideox", "hunyuanvideo"])
def test_a_model_in_bfloat16_samples_too(pipeline_folder, kind):
    spec = spec_of(kind)
    model = load_model(str(pipeline_folder(kind)), "cpu", precision="bfloat16", spec=spec)
    made = model.sample(CAPTION, spec, steps=2)
    assert made.shape == (spec.frames, spec.height, spec.width, 3)
    assert made.std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_clips_that_do_not_fit_are_refused(loaded, kind):
    model = loaded(kind)
    for frames, size in ((10, 64), (spec_of(kind).frames, 72)):
        with pytest.raises(ConfigError, match="takes"):
            model.encode_frames(np.zeros((frames, size, size, 3), np.uint8))


def test_frame_rate_reaches_ltx(pipeline_folder, loaded):
    spec, model = spec_of("ltx"), loaded("ltx")
    faster = load_model(str(pipeline_folder("ltx")), "cpu", spec=ClipSpec(0, 24, 9, 64, 64))
    x, level = torch.randn(model.latent_shape(spec)), torch.tensor([500.0])
    condition = model.encode_caption(CAPTION)
    with torch.no_grad():
        assert not torch.allclose(model.predict(x, level, condition), faster.predict(x, level, condition))


# --- experts ----------------------------------------------------------------------------------------------------------


def test_an_expert_is_chosen_by_its_timesteps(pipeline_folder):
    name = str(pipeline_folder("wan-experts"))
    low, high = (load_model(name, "cpu", timesteps=(t,)) for t in (874.9, 875.0))
    assert (low.identity()["part"], high.identity()["part"]) == ("transformer_2", "transformer")
    assert low.identity()["network"]["sha256"] != high.identity()["network"]["sha256"]
    pipeline = low.pipeline()
    assert pipeline.transformer_2 is low.network
    for mine, theirs in ((high, pipeline.transformer), (low, pipeline.transformer_2)):
        pairs = zip(mine.network.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    x = torch.randn(low.latent_shape(spec_of("wan")))
    condition = low.encode_caption(CAPTION)
    with pytest.raises(ConfigError, match=r"timestep 900 belongs to transformer of"):
        low.predict(x, torch.tensor([900.0]), condition)
    by_default = load_model(name, "cpu", timesteps=AttributionConfig().timesteps)
    assert by_default.identity()["part"] == "transformer_2"
    with pytest.raises(ConfigError, match=r"two experts.*make a run for each side"):
        load_model(name, "cpu", timesteps=(750.748, 900.0))


# --- the real Wan 2.1 1.3B --------------------------------------------------------------------------------------------

WAN_1_3B = {
    "_class_name": "WanTransformer3DModel", "added_kv_proj_dim": None, "attention_head_dim": 128,
    "cross_attn_norm": True, "eps": 1e-06, "ffn_dim": 8960, "freq_dim": 256, "image_dim": None, "in_channels": 16,
    "num_attention_heads": 12, "num_layers": 30, "out_channels": 16, "patch_size": [1, 2, 2],
    "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 1024, "text_dim": 4096,
}  # fmt: skip


def test_the_real_wan_has_the_papers_parameters_and_grid(own_pipeline):
    from tests.models.pipelines import edit_json

    folder = own_pipeline("wan")
    (folder / "transformer" / "config.json").unlink()
    (folder / "transformer" / "config.json").write_text("{}")
    edit_json(folder / "transformer" / "config.json", **WAN_1_3B)
    # as published: no scale factors, no patches
    (folder / "vae" / "config.json").write_text(
        '{"_class_name": "AutoencoderKLWan", "base_dim": 96, "dim_mult": [1, 2, 4, 4], "z_dim": 16, '
        '"temperal_downsample": [false, true, true]}'
    )
    card = model_card(str(folder))
    assert card.default_clip == ClipSpec(start=0, fps=16, frames=81, height=480, width=832)
    assert card.grid(card.default_clip) == (21, 60, 104)
    model = load_model(str(folder), "cpu")
    assert model.latent_shape(card.default_clip) == (1, 16, 21, 60, 104)
    chosen = attributed_parameters(model.outline())
    assert sum(parameter.numel() for _, parameter in chosen) == 1_418_996_800
    assert len(chosen) == 825
