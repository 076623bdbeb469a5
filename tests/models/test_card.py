"""Frame rules and sizes come from the model."""

import pytest

from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.config import ClipConfig
from motive_fo.errors import ConfigError
from motive_fo.models.card import ModelCard, Strides
from motive_fo.models.registry import load_model, model_card, pick_device

WAN = ModelCard("wan", Strides(4, 8, 8), FrameRule(4), 16, ClipSpec(0, 16, 81, 480, 832))
LTX = ModelCard("ltx", Strides(8, 32, 32), FrameRule(8), 32, ClipSpec(0, 24, 97, 512, 704))


def test_latent_grids():
    assert WAN.grid(WAN.default_clip) == (21, 60, 104)
    assert LTX.grid(LTX.default_clip) == (13, 16, 22)


@pytest.mark.parametrize(("card", "frames", "hint"), [(WAN, 80, "77 or 81"), (WAN, 4, "use 5"), (LTX, 81, None)])
def test_a_count_off_the_rule_names_its_neighbours(card, frames, hint):
    if hint is None:
        assert card.frame_rule.accepts(frames)
        return
    with pytest.raises(ConfigError, match=hint):
        ClipConfig(frames=frames).resolve(card)


def test_a_size_off_the_grid_names_the_nearest():
    with pytest.raises(ConfigError, match="multiples of 16, not 100: use 96"):
        ClipConfig(height=100).resolve(WAN)


def test_what_is_left_open_is_the_models_own():
    assert ClipConfig(fps=8).resolve(WAN) == ClipSpec(0, 8, 81, 480, 832)


def test_unknown_models_and_devices_are_refused():
    with pytest.raises(ConfigError, match="unknown model 'wam'"):
        model_card("wam")
    with pytest.raises(ConfigError, match="unknown device"):
        pick_device("gpu")
    with pytest.raises(ConfigError, match="unknown model"):
        load_model("wam")
