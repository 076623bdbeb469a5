"""The embedded model: what it promises as a ``VideoModel``, and that it has learned something.

The second half measures it on scenes it never saw, against predictors that need no network.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from motive_fo.clips.spec import ClipSpec
from motive_fo.errors import ConfigError, InputError, MotiveError
from motive_fo.models.base import VideoModel
from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.evaluation import (
    ATTRIBUTION,
    HELD_OUT,
    Scenes,
    constant_loss,
    latents,
    linear_loss,
    losses,
    noise_like,
    paired_t,
    psnr,
    scenes,
    shuffled,
)
from motive_fo.models.tiny.model import WEIGHTS, TinyModel, load
from motive_fo.models.tiny.text import BUCKETS, LENGTH, buckets
from motive_fo.synthetic.scene import render, sample_scene

SPECS = [CARD.default_clip, ClipSpec(0, 8, 5, 32, 48), ClipSpec(0.5, 24, 9, 96, 64), ClipSpec(0, 16, 33, 16, 16)]


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return load()


def frames_of(spec: ClipSpec, seed: int = HELD_OUT) -> np.ndarray:
    return render(sample_scene(seed), frames=spec.frames, fps=spec.fps, height=spec.height, width=spec.width)


# --- the protocol -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_shapes_agree(model: TinyModel, spec: ClipSpec) -> None:
    video_model: VideoModel = model
    x0 = video_model.encode_frames(frames_of(spec))
    assert tuple(x0.shape) == video_model.latent_shape(spec)
    noised = video_model.noise(x0, noise_like(x0, 0), ATTRIBUTION)
    assert noised.x_t.shape == noised.target.shape == x0.shape
    assert noised.timestep.dtype == torch.float32
    assert float(noised.timestep) == pytest.approx(ATTRIBUTION, abs=1e-3)
    prediction = video_model.predict(noised.x_t, noised.timestep, video_model.encode_caption("a ball"))
    assert prediction.shape == noised.target.shape
    assert prediction.requires_grad
    mask = video_model.arrange_mask(torch.rand(CARD.grid(spec)))
    assert (mask * prediction).shape == prediction.shape


def test_mask_weighs_the_cell_it_belongs_to(model: TinyModel) -> None:
    mask_Fhw = torch.rand(5, 8, 8)
    arranged = model.arrange_mask(mask_Fhw).expand(model.latent_shape(CARD.default_clip))
    assert torch.equal(arranged[0, 7], mask_Fhw)


def test_noising_is_flow_matching(model: TinyModel) -> None:
    x0, e = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 16, 2, 4, 4)
    noised = model.noise(x0, e, 250.0)
    torch.testing.assert_close(noised.x_t, 0.75 * x0 + 0.25 * e)
    torch.testing.assert_close(noised.target, e - x0)
    assert torch.equal(model.noise(x0, e, 0).x_t, x0)
    assert torch.equal(model.noise(x0, e, 1000).x_t, e)
    with pytest.raises(ConfigError, match="between 0"):
        model.noise(x0, e, 1000.5)


def test_every_transformer_parameter_gets_a_gradient_and_nothing_else(model: TinyModel) -> None:
    x0 = model.encode_frames(frames_of(CARD.default_clip))
    noised = model.noise(x0, noise_like(x0, 1), ATTRIBUTION)
    condition = model.encode_caption("a striped ball rolls to the left on a grassy field")
    assert not x0.requires_grad
    assert not condition.tokens_BLD.requires_grad
    loss = (model.predict(noised.x_t, noised.timestep, condition) - noised.target).square().mean()
    gradients = torch.autograd.grad(loss, list(model.network.parameters()))
    assert all(bool(gradient.isfinite().all()) and bool(gradient.any()) for gradient in gradients)


def test_wrong_clips_are_refused(model: TinyModel) -> None:
    for frames, height, width in ((16, 64, 64), (17, 60, 64), (17, 64, 72), (1, 64, 64)):
        with pytest.raises(MotiveError):
            model.encode_frames(np.zeros((frames, height, width, 3), np.uint8))


def test_batches_change_nothing(model: TinyModel) -> None:
    """A clip is predicted the same alone and beside clips with longer captions."""
    captions = ["", "a ball", "a striped orange ball bounces slowly to the right over a grassy field"]
    x_t = noise_like(torch.empty(3, 16, 5, 8, 8), 2)
    together = model.predict(x_t, torch.full((3,), 700.0), model.encode_captions(captions))
    for k, caption in enumerate(captions):
        alone = model.predict(x_t[k : k + 1], torch.tensor([700.0]), model.encode_caption(caption))
        torch.testing.assert_close(together[k : k + 1], alone, atol=2e-5, rtol=1e-4)


# --- captions ---------------------------------------------------------------------------------------------------------


def test_any_caption_is_encoded(model: TinyModel) -> None:
    for caption in ("", " \n", "ball", "ein Bällchen 跳ねる 🎈", "word " * 5000, "x" * 5000, "!?.,", "\ud800", "a\0b"):
        condition = model.encode_caption(caption)
        assert condition.tokens_BLD.shape[1] == condition.used_BL.shape[1] <= LENGTH
        assert bool(condition.tokens_BLD.isfinite().all())


def test_words_are_hashed_the_same_everywhere() -> None:
    assert buckets("A red, RED ball!")[2] == buckets("A red, RED ball!")[3] == buckets("red")[1]
    assert all(0 < token < BUCKETS for token in buckets("the quick brown fox"))
    assert buckets("") == [1]
    program = "from motive_fo.models.tiny.text import buckets; print(buckets('a striped ball'))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert shown.strip() == str(buckets("a striped ball"))


def test_only_the_first_31_words_are_read() -> None:
    words = [f"word{k}" for k in range(40)]
    assert buckets(" ".join(words)) == buckets(" ".join(words[: LENGTH - 1]))


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_small_and_half_precision() -> None:
    assert WEIGHTS.stat().st_size <= 8_000_000
    assert {value.dtype for value in load_file(WEIGHTS).values()} == {torch.float16}


def test_missing_or_foreign_weights_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load(weights=tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(InputError, match="does not hold weights"):
        load(weights=tmp_path / "text.safetensors")
    state = load_file(WEIGHTS)
    state["transformer.patch_in.weight"] = torch.zeros(3, 3, dtype=torch.float16)
    save_file(state, tmp_path / "shape.safetensors")
    with pytest.raises(InputError, match="does not hold weights"):
        load(weights=tmp_path / "shape.safetensors")


def test_identity_follows_the_weights(model: TinyModel) -> None:
    assert model.identity() == load().identity()
    assert model.identity()["name"] == "tiny"
    assert len(model.identity()["weights_sha256"]) == 64
    assert model.identity() != TinyModel.random(0).identity() != TinyModel.random(1).identity()


def test_random_weights_follow_the_seed() -> None:
    torch.manual_seed(5)
    first = TinyModel.random(3).network.state_dict()
    torch.rand(7)
    second = TinyModel.random(3).network.state_dict()
    other = TinyModel.random(4).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["patch_in.weight"], other["patch_in.weight"])


def test_randomized_changes_the_transformer_alone(model: TinyModel) -> None:
    other = model.randomized(2)
    frames = frames_of(CARD.default_clip)
    assert torch.equal(other.encode_frames(frames), model.encode_frames(frames))
    assert torch.equal(other.encode_caption("a ball").tokens_BLD, model.encode_caption("a ball").tokens_BLD)
    own, random = model.network.state_dict(), TinyModel.random(2).network.state_dict()
    assert all(torch.equal(value, random[name]) for name, value in other.network.state_dict().items())
    assert not torch.equal(own["patch_in.weight"], random["patch_in.weight"])
    assert other.identity() != model.identity()


def test_card_needs_no_torch() -> None:
    program = "import sys; import motive_fo.models.tiny.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_results_repeat_bit_by_bit(model: TinyModel) -> None:
    def once(loaded: TinyModel) -> torch.Tensor:
        x0 = loaded.encode_frames(frames_of(CARD.default_clip))
        noised = loaded.noise(x0, noise_like(x0, 3), ATTRIBUTION)
        prediction = loaded.predict(noised.x_t, noised.timestep, loaded.encode_caption("a red ball"))
        return torch.autograd.grad((prediction - noised.target).square().mean(), list(loaded.network.parameters()))[0]

    assert torch.equal(once(model), once(load()))


# --- the autoencoder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [load, TinyModel.random])
def test_autoencoder_never_looks_ahead(make: Callable[[], TinyModel]) -> None:
    """Latent k depends on the frames up to 4k alone - and does depend on frame 4k."""
    tested = make()
    frames = frames_of(CARD.default_clip)
    latent = tested.encode_frames(frames)
    decoded = tested.decode_latent(latent)
    for k in range(4):
        changed = frames.copy()
        changed[4 * k + 1 :] = 255 - changed[4 * k + 1 :]
        assert torch.equal(tested.encode_frames(changed)[:, :, : k + 1], latent[:, :, : k + 1])
        changed = frames.copy()
        changed[4 * k] = 255 - changed[4 * k]
        assert not torch.equal(tested.encode_frames(changed)[:, :, k], latent[:, :, k])
        cut = latent.clone()
        cut[:, :, k + 1 :] += 1
        np.testing.assert_array_equal(tested.decode_latent(cut)[: 4 * k + 1], decoded[: 4 * k + 1])


def test_a_longer_clip_has_the_same_first_latents(model: TinyModel) -> None:
    frames = frames_of(CARD.default_clip)
    torch.testing.assert_close(
        model.encode_frames(frames[:9]), model.encode_frames(frames)[:, :, :3], atol=1e-4, rtol=1e-4
    )


# --- what it has learned ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unseen() -> Scenes:
    return scenes(range(HELD_OUT + 50_000, HELD_OUT + 50_100))


@pytest.fixture(scope="module")
def x0(model: TinyModel, unseen: Scenes) -> torch.Tensor:
    return latents(model, unseen.frames_NTHW3)


@pytest.fixture(scope="module")
def training(model: TinyModel) -> torch.Tensor:
    return latents(model, scenes(range(200)).frames_NTHW3)


def test_autoencoder_reconstructs(model: TinyModel, unseen: Scenes) -> None:
    own, mean_colour = psnr(model, unseen.frames_NTHW3[:30])
    assert own >= 25
    assert own >= mean_colour + 6


def test_latents_are_normalised(x0: torch.Tensor) -> None:
    assert float(x0.mean((0, 2, 3, 4)).abs().max()) < 0.25
    assert float((x0.std((0, 2, 3, 4)) - 1).abs().max()) < 0.25


@pytest.mark.parametrize("timestep", [400.0, 600.0, ATTRIBUTION, 900.0])
def test_beats_the_best_constant(model: TinyModel, unseen: Scenes, x0: torch.Tensor, timestep: float) -> None:
    e = noise_like(x0, 1)
    assert float(losses(model, x0, e, unseen.captions, timestep).mean()) <= 0.9 * constant_loss(x0, e)


@pytest.mark.parametrize("timestep", [600.0, ATTRIBUTION])
def test_beats_the_best_linear_predictor_of_one_frame(
    model: TinyModel, unseen: Scenes, x0: torch.Tensor, training: torch.Tensor, timestep: float
) -> None:
    e = noise_like(x0, 2)
    designs = [
        linear_loss(training, x0, e, timestep, None),
        linear_loss(training, x0, e, timestep, 1),
        linear_loss(training[:90], x0, e, timestep, 2),
    ]
    assert min(designs) < constant_loss(x0, e)
    assert float(losses(model, x0, e, unseen.captions, timestep).mean()) <= 0.95 * min(designs)


def test_linear_predictor_is_the_least_squares_solution() -> None:
    """The closed form agrees with a regression on many noise draws."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(300, 3, 2, 2, 2, generator=generator)
    clean = cast(torch.Tensor, base + 0.8 * base.mean((1, 2, 3, 4), keepdim=True) + 0.3)
    e = torch.randn(clean.shape, generator=generator)
    closed = linear_loss(clean, clean, e, 700.0, None)
    fitted = 0.0
    for part in (slice(0, 1), slice(1, 2)):
        x = clean[:, :, part].flatten(1).repeat(60, 1).double()
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        ones = torch.ones(len(x), 1, dtype=torch.float64)
        weights = torch.linalg.lstsq(torch.cat([0.3 * x + 0.7 * noise, ones], 1), noise - x).solution
        x, noise = clean[:, :, part].flatten(1).double(), e[:, :, part].flatten(1).double()
        guess = torch.cat([0.3 * x + 0.7 * noise, ones[: len(x)]], 1) @ weights
        fitted += float((guess - (noise - x)).square().mean()) / 2
    assert closed == pytest.approx(fitted, rel=5e-3)


def test_shuffled_frames_cost_more(model: TinyModel, unseen: Scenes, x0: torch.Tensor) -> None:
    """The model knows how things move: the same frames in another order, under the same noise, fit it worse."""
    moving = [k for k, motion in enumerate(unseen.motions) if motion != "still"]
    e = noise_like(x0, 3)
    mixed = latents(model, shuffled(unseen.frames_NTHW3, 1))
    ordered_loss = losses(model, x0, e, unseen.captions, ATTRIBUTION)[moving]
    shuffled_loss = losses(model, mixed, e, unseen.captions, ATTRIBUTION)[moving]
    assert float(shuffled_loss.mean() / ordered_loss.mean()) >= 1.02
    assert paired_t(shuffled_loss - ordered_loss) >= 3


def test_the_caption_matters(model: TinyModel, unseen: Scenes, x0: torch.Tensor) -> None:
    e = noise_like(x0, 4)
    right = losses(model, x0, e, unseen.captions, 900.0)
    wrong = losses(model, x0, e, unseen.captions[1:] + unseen.captions[:1], 900.0)
    assert paired_t(wrong - right) >= 3


def test_untrained_weights_have_learned_nothing(unseen: Scenes, model: TinyModel, x0: torch.Tensor) -> None:
    e = noise_like(x0, 1)[:40]
    untrained = losses(TinyModel.random(0), x0[:40], e, unseen.captions[:40], ATTRIBUTION).mean()
    trained = losses(model, x0[:40], e, unseen.captions[:40], ATTRIBUTION).mean()
    assert float(untrained) > 1.3 * float(trained)


def test_samples_look_like_clips(model: TinyModel) -> None:
    caption = "a striped red ball rolls to the right on a grassy field"
    frames = model.sample(caption, seed=1, steps=8)
    assert frames.shape == (17, 64, 64, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, model.sample(caption, seed=1, steps=8))
    assert not np.array_equal(frames, model.sample(caption, seed=2, steps=8))
    # Neighbouring pixels and frames agree, as in no noise.
    step = np.abs(np.diff(frames.astype(float), axis=0)).mean()
    assert step < 0.5 * frames.std()
