"""The numerical self-check finds what it is for: planted dependence on company, and a precision that is not enough."""

import dataclasses

import numpy as np
import pytest
import torch

from motive_fo import doctor
from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig
from motive_fo.models.registry import model_card
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline import numerics
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.numerics import check_numerics
from tests.models import pipelines
from tests.models.pipelines import CLIP


def _settings(model="tiny", **clip):
    return MotionSettings.build(ClipConfig(**clip), FlowConfig(estimator="dis"), MotionConfig(), model_card(str(model)))


def _verdicts(checks):
    return {check.subject: check.verdict for check in checks}


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    for package in ("diffusers", "transformers", "accelerate", "tokenizers"):
        pytest.importorskip(package)
    return str(pipelines.wan(tmp_path_factory.mktemp("models") / "wan"))


def test_the_embedded_model_repeats_itself_to_the_last_bit():
    checks = check_numerics(_settings(frames=5), AttributionConfig())
    assert _verdicts(checks) == {"repeated": "ok", "alone": "ok", "precision": "ok"}
    assert [check.text.endswith("equal to the last bit") for check in checks[:2]] == [True, True]


def test_a_model_that_remembers_the_clips_before_is_caught(monkeypatch):
    predict = TinyModel.predict
    seen = []

    def forgetful(self, x_t, timestep, condition):
        seen.append(0)
        return predict(self, x_t, timestep, condition) * (1 + 0.1 * len(seen))

    monkeypatch.setattr(TinyModel, "predict", forgetful)
    verdicts = _verdicts(check_numerics(_settings(frames=5), AttributionConfig()))
    assert verdicts["repeated"] == verdicts["alone"] == "fail"


def test_a_gradient_that_is_not_finite_is_no_equal_one(monkeypatch):
    predict = TinyModel.predict
    seen = []

    def broken(self, x_t, timestep, condition):
        seen.append(0)
        return predict(self, x_t, timestep, condition) * (float("nan") if len(seen) == 4 else 1.0)

    monkeypatch.setattr(TinyModel, "predict", broken)
    assert _verdicts(check_numerics(_settings(frames=5), AttributionConfig()))["repeated"] == "fail"


def test_bfloat16_is_held_against_float32(wan):
    checks = check_numerics(_settings(wan, **CLIP), AttributionConfig(model=wan, precision="bfloat16"))
    precision = checks[-1]
    assert precision.text.startswith("bfloat16 turns sketches by ")
    turned = float(precision.text.split(" by ")[1].split()[0])
    assert 1e-4 < turned < 1
    expected = "ok" if turned <= numerics.FINE else "warn" if turned < numerics.UNSAFE else "fail"
    assert precision.verdict == expected


@pytest.mark.parametrize(("noise", "verdict"), [(0.001, "ok"), (0.05, "warn"), (0.5, "fail"), (np.nan, "fail")])
def test_the_verdict_follows_the_angle(noise, verdict):
    exact = np.random.default_rng(0).normal(size=(3, 2, 512))
    made = exact + noise * np.random.default_rng(1).normal(size=exact.shape)
    assert numerics._precision("bfloat16", made, exact).verdict == verdict


def test_where_float32_does_not_fit_it_says_so(wan, monkeypatch):
    load = numerics.attributed_model

    def too_large(config, spec=None):
        if config.precision == "float32":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return load(config, spec)

    monkeypatch.setattr(numerics, "attributed_model", too_large)
    checks = check_numerics(_settings(wan, **CLIP), AttributionConfig(model=wan, precision="bfloat16"))
    assert checks[-1].verdict == "warn"
    assert "does not fit here" in checks[-1].text


def test_a_real_clip_is_taken_first(corpus, monkeypatch):
    given = []
    encode = TinyModel.encode_frames
    monkeypatch.setattr(TinyModel, "encode_frames", lambda self, frames: given.append(frames) or encode(self, frames))
    findings = doctor._numerics(AttributionConfig(), ClipConfig(), corpus.train[0])
    assert {finding.level for finding in findings} == {"ok"}
    assert len(given) == 3
    rendered = numerics.rendered(_settings().spec, 1)[0]
    assert not np.array_equal(given[0], rendered)
    assert np.array_equal(given[1], rendered)


def test_the_doctor_reports_a_model_that_is_not_there():
    wrong = dataclasses.replace(AttributionConfig(), model="no/such-folder")
    (line,) = [f for f in doctor.examine(attribution=wrong) if f.subject == "model no/such-folder"]
    assert line.level == "fail"


def test_the_doctor_says_of_a_clip_that_cannot_be_read_what_to_do(tmp_path):
    missing = tmp_path / "missing.mp4"
    (line,) = [f for f in doctor.examine(attribution=AttributionConfig(), video=missing) if f.subject == "model tiny"]
    assert line.level == "fail"
    assert line.text == f"{missing} does not exist. Restore it, or delete the sample."
