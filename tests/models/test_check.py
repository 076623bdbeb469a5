"""The test kit finds what is wrong with an adapter, and nothing wrong with ours."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from motive_fo.clips.spec import ClipSpec
from motive_fo.models.check import check_adapter
from motive_fo.models.registry import load_model
from tests.models import own_adapter
from tests.models.test_diffusion_adapters import KINDS, spec_of

SMALL = ClipSpec(0, 16, 17, 32, 48)


def _broken(model, spec=SMALL):
    return {promise.name: promise.text for promise in check_adapter(model, spec=spec) if not promise.kept}


def test_the_embedded_model_keeps_every_promise():
    promises = check_adapter(load_model("tiny", "cpu"), spec=SMALL)
    assert [str(promise) for promise in promises if not promise.kept] == []
    assert len(promises) == 14


@pytest.mark.parametrize("kind", KINDS)
def test_so_do_the_pipelines(pipeline_folder, kind):
    size = (
        128 if kind in ("ltx", "hunyuanvideo", "wan-per-token") else 64
    )  # on 2x2 cells of LTX every cell sees every pixel
    spec = replace(spec_of(kind), height=size, width=size)
    model = load_model(str(pipeline_folder(kind)), "cpu", timesteps=(750.748,), spec=spec)
    assert _broken(model, spec) == {}


@pytest.mark.parametrize(
    ("name", "promises", "hint"),
    [
        ("Flipped", {"mask in space"}, "arrange_mask gives .* does not go with latents"),
        ("Backwards", {"mask in time"}, "latent frames where"),
        ("Sampling", {"encoding is deterministic"}, "take the mode"),
        ("Deaf", {"caption"}, "does predict use the condition"),
        ("Idle", {"every parameter"}, "1 of .* get no gradient: idle"),
        ("Noisy", {"loss", "gradient", "same clip, same sketch", "caption"}, "something random"),
        ("Detached", {"prediction", "loss", "gradient", "every parameter"}, "no gradient flows"),
        ("Clean", {"noising"}, "should be the latent"),
    ],
)
def test_a_broken_promise_is_named(name, promises, hint):
    broken = _broken(getattr(own_adapter, name)("cpu", "float32"))
    assert set(broken) & promises
    assert any(re.search(hint, text) for text in broken.values()), broken
    if name in ("Backwards", "Deaf", "Idle", "Clean"):
        assert set(broken) == promises
