"""A test kit for adapters: does a model keep what ``VideoModel`` promises?

``check_adapter`` asks with one small clip and says of each promise whether it is kept. Nothing it compares with comes
from the adapter: losses and gradients are computed again by plain autograd, and where a mask lies is found out by
changing pixels and looking which cells of the latent follow.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.gradients import MASKED, UNMASKED, clip_sketch, streaming
from motive_fo.attribution.loss import shared_noise
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import SRHTProjection
from motive_fo.clips.spec import ClipSpec
from motive_fo.models.base import Noised, VideoModel
from motive_fo.synthetic.scene import render, sample_scene

_CAPTIONS: Final = ("a red ball rolls to the left over a wooden table", "a striped disc spins in front of a brick wall")
_TOLERANCE: Final = 1e-3  # of sums in float32 in another order; bfloat16 networks are compared with themselves
_NOTICEABLY: Final = 1.5  # how much more cells of changed pixels change than the others, at least
_FAINT: Final = 12  # of 255
_SHOWN: Final = 5


@dataclass(frozen=True)
class Promise:
    """One promise of the protocol.

    Attributes:
        name: which.
        kept: whether it is.
        text: what was found.
    """

    name: str
    kept: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.kept else 'FAIL'} {self.name}: {self.text}"


def check_adapter(
    model: VideoModel,
    *,
    spec: ClipSpec | None = None,
    frames_THW3: npt.NDArray[np.uint8] | None = None,
    captions: tuple[str, str] = _CAPTIONS,
    timestep: float = 750.748,
) -> list[Promise]:
    """Ask an adapter for everything the gradient step asks it for, and compare.

    Memory is taken for all gradients at once, beside what the model takes.

    Args:
        model: the adapter, loaded.
        spec: the clip it is asked with; four latent cells in each direction of space are enough to tell them apart,
            two in time. The card's default where open.
        frames_THW3: frames of such a clip, uint8 RGB; a drawn scene where open.
        captions: two that mean different things.
        timestep: where in the schedule it is asked.

    Returns:
        every promise, kept or not. A promise that could not be looked at because the model raised is not kept.
    """
    spec = model.card.default_clip if spec is None else spec
    if frames_THW3 is None:
        frames_THW3 = render(sample_scene(0), frames=spec.frames, fps=spec.fps, height=spec.height, width=spec.width)
    asked = _Asked(model, spec, frames_THW3, captions, timestep)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("identity", asked.identity),
        ("card", asked.card),
        ("latent shape", asked.latent_shape),
        ("encoding is deterministic", asked.deterministic_encoding),
        ("mask in space", asked.mask_in_space),
        ("mask in time", asked.mask_in_time),
        ("noising", asked.noising),
        ("prediction", asked.prediction),
        ("caption", asked.caption),
        ("loss", asked.loss),
        ("gradient", asked.gradient),
        ("every parameter", asked.every_parameter),
        ("mask of ones", asked.mask_of_ones),
        ("same clip, same sketch", asked.same_sketch),
    ]
    promises = []
    for name, check in checks:
        try:
            promises.append(Promise(name, True, check()))
        except _Broken as broken:
            promises.append(Promise(name, False, str(broken)))
        except Exception as error:  # an adapter may raise anything; the other promises are looked at all the same
            promises.append(Promise(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return promises


class _Broken(Exception):  # noqa: N818 - it never leaves this module
    """A promise is not kept."""


def _require(kept: bool, text: str) -> None:
    if not kept:
        raise _Broken(text)


def _disturbed(frames_THW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Frames with faint noise: it moves the cells it is in, and hardly the averages that normalisation layers share."""
    noise = np.random.default_rng(1).integers(-_FAINT, _FAINT + 1, frames_THW3.shape)
    disturbed: npt.NDArray[np.uint8] = np.clip(frames_THW3.astype(np.int64) + noise, 0, 255).astype(np.uint8)
    return disturbed


@dataclass
class _Asked:
    model: VideoModel
    spec: ClipSpec
    frames_THW3: npt.NDArray[np.uint8]
    captions: tuple[str, str]
    timestep: float

    # -- what several promises need, each computed when it is first needed ------------------------------------------

    def x0(self) -> torch.Tensor:
        made: torch.Tensor = self._once("x0", lambda: self.model.encode_frames(self.frames_THW3))
        return made

    def condition(self) -> Any:
        return self._once("condition", lambda: self.model.encode_caption(self.captions[0]))

    def noised(self) -> Noised:
        made: Noised = self._once("noised", lambda: self.model.noise(self.x0(), self._e(), self.timestep))
        return made

    def mask(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng(0).random(self.model.card.grid(self.spec)).astype(np.float32)

    def sketches(self) -> tuple[Any, Any, Any]:
        """With a mask, the same again, and with a mask of ones."""
        return self._once("sketches", self._sketches)  # type: ignore[no-any-return]

    def plain(self) -> dict[int, tuple[float, dict[str, torch.Tensor]]]:
        """Loss and gradients by name of both mask sides, all at once, by autograd."""
        return self._once("plain", self._plain)  # type: ignore[no-any-return]

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        kept = self.__dict__.setdefault("_kept", {})
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def _e(self) -> torch.Tensor:
        x0 = self.x0()
        return shared_noise(tuple(x0.shape), 0).to(x0.device, x0.dtype)

    def _projection(self) -> SRHTProjection:
        return SRHTProjection(dimension=512)

    def _sketches(self) -> tuple[Any, Any, Any]:
        ones = np.ones_like(self.mask())
        with streaming(self.model.network, self._projection()) as backward:
            made = [
                clip_sketch(self.model, backward, self.x0(), self.condition(), mask, self.timestep, 0)
                for mask in (self.mask(), self.mask(), ones)
            ]
        return made[0], made[1], made[2]

    def _plain(self) -> dict[int, tuple[float, dict[str, torch.Tensor]]]:
        network = self.model.network
        training = network.training
        network.eval()
        named = attributed_parameters(network)
        was = [parameter.requires_grad for _, parameter in named]
        arranged = self.model.arrange_mask(torch.from_numpy(self.mask()))
        found = {}
        try:
            for _, parameter in named:
                parameter.requires_grad_(True)
            for side in (UNMASKED, MASKED):
                with torch.enable_grad():
                    noised = self.noised()
                    prediction = self.model.predict(noised.x_t, noised.timestep, self.condition())
                    error = (prediction.double() - noised.target.double()) ** 2
                    weight = arranged.to(error.device, error.dtype).expand_as(error) if side == MASKED else 1.0
                    loss = (error * weight).sum() / error.numel()
                    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
                by_name = {
                    name: torch.zeros_like(parameter) if gradient is None else gradient
                    for (name, parameter), gradient in zip(named, gradients, strict=True)
                }
                found[side] = (float(loss.detach()), by_name)
        finally:
            for (_, parameter), required in zip(named, was, strict=True):
                parameter.requires_grad_(required)
            network.train(training)
        return found

    # -- promises ---------------------------------------------------------------------------------------------------

    def identity(self) -> str:
        said = self.model.identity()
        text = json.dumps(dict(said))
        _require(text == json.dumps(dict(self.model.identity())), "two calls of identity() differ")
        _require("name" in said, "identity() has no 'name'")
        return f"{len(said)} entries, the same twice"

    def card(self) -> str:
        grid = self.model.card.grid(self.spec)
        _require(min(grid) >= 2, f"the grid {grid} of this clip is too small to tell axes apart: give a larger spec")
        return f"{self.spec.frames} frames of {self.spec.height}x{self.spec.width} are {grid}"

    def latent_shape(self) -> str:
        said, made = tuple(self.model.latent_shape(self.spec)), tuple(self.x0().shape)
        _require(made == said, f"encode_frames made {made}, latent_shape says {said}")
        _require(made[0] == 1, f"the first axis of {made} is the batch and must be 1")
        _require(self.x0().dtype == torch.float32, f"latents are {self.x0().dtype}: give them in float32")
        _require(not self.x0().requires_grad, "latents carry a gradient: encode under torch.no_grad()")
        _require(self.x0().device == self.model.device, f"latents are on {self.x0().device}, not {self.model.device}")
        _require(bool(torch.isfinite(self.x0()).all()), "latents are not finite")
        return str(made)

    def deterministic_encoding(self) -> str:
        again = self.model.encode_frames(self.frames_THW3)
        _require(torch.equal(self.x0(), again), "the same frames gave two latents: take the mode, not a sample")
        return "the same frames give the same latent"

    def mask_in_space(self) -> str:
        height = self.model.card.grid(self.spec)[1]
        changed = self.frames_THW3.copy()
        rows = height // 2 * self.model.card.strides.height
        changed[:, :rows] = _disturbed(changed[:, :rows])
        mask = np.zeros_like(self.mask())
        mask[:, : height // 2] = 1
        return self._follows(changed, mask, "pixels of the upper half", "rows")

    def mask_in_time(self) -> str:
        frames = self.model.card.grid(self.spec)[0]
        first = frames - frames // 2  # the latent frames from here on
        changed = self.frames_THW3.copy()
        start = (first - 1) * self.model.card.strides.time + 1
        changed[start:] = _disturbed(changed[start:])
        mask = np.zeros_like(self.mask())
        mask[first:] = 1
        return self._follows(changed, mask, "pixels of the later frames", "latent frames")

    def _follows(self, changed: npt.NDArray[np.uint8], mask: npt.NDArray[np.float32], what: str, axis: str) -> str:
        moved = (self.model.encode_frames(changed) - self.x0()).double().square()
        inside = self.model.arrange_mask(torch.from_numpy(mask)).to(moved.device, moved.dtype)
        try:
            inside = inside.expand_as(moved)
        except RuntimeError:
            raise _Broken(
                f"arrange_mask gives {tuple(inside.shape)}, which does not go with latents {tuple(moved.shape)}"
            ) from None
        share = float(inside.mean())
        _require(abs(share - float(mask.mean())) < 1e-6, f"the mask covers {share:.3f}, not {mask.mean():.3f}")
        ratio = float((moved * inside).sum() / share / ((moved * (1 - inside)).sum() / (1 - share) + 1e-30))
        _require(
            ratio > _NOTICEABLY,
            f"{what} were changed, and the cells the mask points at changed {ratio:.2f} times as much as the others: "
            f"are its {axis} where the latent has them?",
        )
        return f"cells of changed pixels change {min(ratio, 1e9):.3g} times as much as the others"

    def noising(self) -> str:
        e = self._e()
        for timestep, like, what in ((0.0, self.x0(), "the latent"), (1000.0, e, "the noise")):
            x_t = self.model.noise(self.x0(), e, timestep).x_t
            cosine = float(torch.nn.functional.cosine_similarity(x_t.flatten(), like.flatten(), dim=0))
            _require(cosine > 0.99, f"at timestep {timestep:g} x_t should be {what}, their cosine is {cosine:.3f}")
        noised = self.noised()
        _require(noised.x_t.shape == noised.target.shape == e.shape, "x_t, target and noise differ in shape")
        _require(noised.timestep.dtype == torch.float32, f"the timestep is {noised.timestep.dtype}: bfloat16 rounds it")
        return "clean at 0, noise at 1000"

    def prediction(self) -> str:
        noised = self.noised()
        with torch.enable_grad():
            made = self.model.predict(noised.x_t, noised.timestep, self.condition())
        _require(made.shape == noised.target.shape, f"{tuple(made.shape)}, the target is {tuple(noised.target.shape)}")
        _require(bool(torch.isfinite(made).all()), "it is not finite")
        _require(made.requires_grad, "no gradient flows: do not predict under torch.no_grad()")
        return f"{tuple(made.shape)}, finite"

    def caption(self) -> str:
        noised = self.noised()
        with torch.no_grad():
            made = [
                self.model.predict(noised.x_t, noised.timestep, condition)
                for condition in (self.condition(), self.model.encode_caption(self.captions[1]))
            ]
            self.model.encode_caption("")
        _require(not torch.equal(*made), "two captions give one prediction: does predict use the condition?")
        return "another caption gives another prediction, and an empty one is taken"

    def loss(self) -> str:
        sketch = self.sketches()[0]
        for side, what in ((UNMASKED, "ordinary"), (MASKED, "masked")):
            told, plain = float(sketch.loss_2[side]), self.plain()[side][0]
            _require(
                abs(told - plain) <= _TOLERANCE * plain, f"the {what} loss is {told:.6g}, computed again {plain:.6g}"
            )
        return f"{sketch.loss_2[UNMASKED]:.6g}, with a random mask {sketch.loss_2[MASKED]:.6g}"

    def gradient(self) -> str:
        sketch, projection = self.sketches()[0], self._projection()
        worst = 0.0
        for side in (UNMASKED, MASKED):
            gradients = self.plain()[side][1]
            whole = projection.combine({name: projection.project(name, g) for name, g in gradients.items()}).numpy()
            off = float(np.linalg.norm(sketch.sketch_2D[side] - whole) / np.linalg.norm(whole))
            worst = max(worst, off)
        rough = any(parameter.dtype != torch.float32 for parameter in self.model.network.parameters())
        _require(
            worst <= (0.05 if rough else _TOLERANCE),
            f"streamed and plain gradient differ by {worst:.2g} of their size: is dropout on, or something random?",
        )
        return f"streamed and plain gradient agree to {worst:.1g}"

    def every_parameter(self) -> str:
        gradients = self.plain()[UNMASKED][1]
        dead = [name for name, gradient in gradients.items() if not gradient.any()]
        _require(not dead, f"{len(dead)} of {len(gradients)} get no gradient: {', '.join(dead[:_SHOWN])}")
        return f"all {len(gradients)} get a gradient ({sum(g.numel() for g in gradients.values()):,} numbers)"

    def mask_of_ones(self) -> str:
        ones = self.sketches()[2]
        off = float(np.linalg.norm(ones.sketch_2D[MASKED] - ones.sketch_2D[UNMASKED]))
        size = float(np.linalg.norm(ones.sketch_2D[UNMASKED]))
        _require(off <= _TOLERANCE * size, f"it changes the sketch by {off / size:.2g} of its size")
        return "gives the ordinary loss and sketch"

    def same_sketch(self) -> str:
        one, two, _ = self.sketches()
        same = np.array_equal(one.sketch_2D, two.sketch_2D)
        off = float(np.linalg.norm(one.sketch_2D - two.sketch_2D) / np.linalg.norm(one.sketch_2D))
        _require(off <= _TOLERANCE, f"two runs differ by {off:.2g} of their size: is dropout on, or something random?")
        return "bit for bit" if same else f"to {off:.1g}; the device's sums are not ordered"
