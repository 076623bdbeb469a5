"""AllTracker as a flow estimator. Untrained weights track nothing: these tests are of sizes, anchors and identity."""

import hashlib

import numpy as np
import pytest
import torch

from motive_fo.errors import ClipError, ConfigError
from motive_fo.flow.alltracker.estimator import AllTrackerFlow
from motive_fo.flow.base import FlowEstimator
from tests.flow.alltracker.conftest import lively_state, textured_frames


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"model": lively_state("tiny")}, path)
    return path


@pytest.fixture(scope="module")
def estimator(weights):
    return AllTrackerFlow("tiny", weights, input_size=128, iterations=2)


def _bytes(*shape):
    return textured_frames(*shape)[0].permute(0, 2, 3, 1).byte().numpy()


@pytest.mark.parametrize("reading", ["step", "anchor"])
@pytest.mark.parametrize("length", [2, 4])
def test_both_readings_have_the_shape_of_the_clip(estimator, reading, length):
    frames = _bytes(length, 50, 70)
    kept = frames.copy()
    found = estimator.estimate(frames, reading)
    assert found.reading == reading
    assert found.flow_THW2.shape == (length, 50, 70, 2)
    assert found.visibility_THW.shape == (length, 50, 70)
    assert found.flow_THW2.dtype == found.visibility_THW.dtype == np.float32
    assert np.isfinite(found.flow_THW2).all()
    assert found.visibility_THW.min() >= 0
    assert found.visibility_THW.max() <= 1
    assert np.array_equal(frames, kept)


def test_it_fits_the_protocol(estimator):
    fits: FlowEstimator = estimator
    assert fits.readings == {"step", "anchor"}


def test_frames_as_they_are_are_not_scaled(weights):
    frames = _bytes(3, 130, 140)
    found = AllTrackerFlow("tiny", weights, input_size=0, iterations=2).track(frames)
    network = AllTrackerFlow("tiny", weights, input_size=0).network
    flow, visconf = network(torch.from_numpy(frames).permute(0, 3, 1, 2)[None], iterations=2)
    np.testing.assert_allclose(found.flow_THW2, flow[0].permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(found.visibility_THW, visconf[0].prod(1), atol=1e-5)


def test_displacement_is_in_pixels_of_the_clip(weights):
    """The same network input from frames of half the size and with squeezed columns: half, or a quarter, of the way."""
    large, size = _bytes(3, 128, 128), (128, 128)
    estimator = AllTrackerFlow("tiny", weights, input_size=128, iterations=2)
    whole = estimator.track(large).flow_THW2
    frames = torch.from_numpy(large).permute(0, 3, 1, 2)
    flow, _ = estimator._run(frames, (64, 32))
    expected = torch.nn.functional.interpolate(torch.from_numpy(whole).permute(0, 3, 1, 2), (64, 32), mode="bilinear")
    np.testing.assert_allclose(flow, expected.permute(0, 2, 3, 1) * torch.tensor([0.25, 0.5]), atol=1e-3)
    assert estimator.network_size(*size) == size


@pytest.mark.parametrize(
    ("size", "seen"),
    [((480, 832), (288, 512)), ((64, 64), (512, 512)), ((1080, 1920), (288, 512)), ((9, 900), (8, 512))],
)
def test_the_long_side_is_brought_to_the_input_size(weights, size, seen):
    assert AllTrackerFlow("tiny", weights).network_size(*size) == seen


def test_any_frame_can_be_the_anchor(estimator):
    """The later part is the clip from there on, the earlier part the clip up to there in reverse."""
    frames = _bytes(7, 64, 64)
    found = estimator.track(frames, 3)
    later, earlier = estimator.track(frames[3:]), estimator.track(frames[3::-1])
    assert found.anchor == 3
    np.testing.assert_allclose(found.flow_THW2[3:], later.flow_THW2, atol=1e-4)
    np.testing.assert_allclose(found.flow_THW2[:3], earlier.flow_THW2[:0:-1], atol=1e-4)
    assert estimator.track(frames, 6).flow_THW2.shape == estimator.track(frames, 0).flow_THW2.shape


def test_the_anchor_is_chosen_from_either_end(weights):
    frames = _bytes(4, 64, 64)
    build = lambda anchor: AllTrackerFlow("tiny", weights, input_size=128, iterations=1, anchor=anchor)  # noqa: E731
    from_end, from_start = (build(anchor).estimate(frames, "anchor") for anchor in (-1, 3))
    assert np.array_equal(from_end.flow_THW2, from_start.flow_THW2)
    assert not np.array_equal(from_end.flow_THW2, build(0).estimate(frames, "anchor").flow_THW2)
    with pytest.raises(ConfigError, match="anchor frame 9 is not in a clip of 4 frames"):
        build(9).estimate(frames, "step")


def test_two_anchors_encode_every_frame_once_and_give_the_same(weights, monkeypatch):
    frames = _bytes(5, 64, 64)
    estimator = AllTrackerFlow("tiny", weights, input_size=64, iterations=1)
    encoded = []
    encode = estimator.network.encode
    monkeypatch.setattr(estimator.network, "encode", lambda x: encoded.append(len(x)) or encode(x))
    together = estimator.estimate(frames, "step")
    assert sum(encoded) == 5
    encoded.clear()
    estimator.network.memory = 1 << 18  # too little to keep a clip's features
    apart = estimator.estimate(frames, "step")
    assert sum(encoded) == 10
    np.testing.assert_allclose(together.flow_THW2, apart.flow_THW2, atol=1e-4)


def test_identity_holds_what_changes_the_numbers(weights, estimator):
    identity = estimator.identity("step")
    assert identity["estimator"] == "alltracker-tiny"
    assert identity["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    for change in ({"input_size": 64}, {"iterations": 3}, {"anchor": 1}, {"precision": "bfloat16"}):
        other = AllTrackerFlow("tiny", weights, **{"input_size": 128, "iterations": 2} | change)
        assert other.identity("step") != identity
    alone = AllTrackerFlow("tiny", weights, input_size=128, iterations=2, second_anchor=None, memory_mib=7)
    assert alone.identity("step") != identity
    assert alone.identity("anchor") == estimator.identity("anchor")


def test_the_same_frames_give_the_same_numbers(weights, estimator):
    frames = _bytes(3, 64, 64)
    again = AllTrackerFlow("tiny", weights, input_size=128, iterations=2).estimate(frames, "step")
    assert np.array_equal(estimator.estimate(frames, "step").flow_THW2, again.flow_THW2)


def test_numbers_that_are_not_finite_fail_the_clip(weights):
    estimator = AllTrackerFlow("tiny", weights, input_size=64, iterations=1)
    with torch.no_grad():
        estimator.network.flow_head[2].bias.fill_(float("nan"))
    with pytest.raises(ClipError, match="not finite"):
        estimator.estimate(_bytes(2, 64, 64), "anchor")


@pytest.mark.parametrize(
    "wrong", [{"input_size": 5}, {"iterations": 0}, {"precision": "int8"}, {"memory_mib": 0}, {"variant": "huge"}]
)
def test_wrong_settings_are_refused_before_weights_are_looked_for(wrong):
    with pytest.raises(ConfigError):
        AllTrackerFlow(**{"weights": "/nowhere"} | wrong)
