"""The probe passes every map the product has, and fails one whose answers are wrong in a way that has been seen."""

from __future__ import annotations

import pytest
import torch

from motive_fo import doctor
from motive_fo.attribution import probe
from motive_fo.attribution.probe import device_change, probe_projection
from motive_fo.attribution.projection import FastfoodProjection, GaussianProjection, IdentityProjection, SRHTProjection


@pytest.mark.parametrize(
    "projection",
    [
        FastfoodProjection(),
        FastfoodProjection(128, 1024, seed=3),
        SRHTProjection(),
        SRHTProjection(128, 512, seed=7),
        IdentityProjection(sum(probe._ELEMENTS)),
    ],
)
def test_sound_maps_pass(projection):
    found = probe_projection(projection)
    assert found.sound, found
    assert device_change(FastfoodProjection(), "cpu") == 0


@pytest.mark.slow  # draws 8 million Gaussians for each probe
def test_the_ideal_map_passes():
    assert probe_projection(GaussianProjection(128)).sound


class Broken(FastfoodProjection):
    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def project(self, name, gradient):
        return self.spoil(name, super().project(name, gradient))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda name, part: part * 0,
        lambda name, part: part * 2,
        lambda name, part: part * (name != "probe0"),
        lambda name, part: part.abs(),
        lambda name, part: part * torch.nan,
        lambda name, part: part.sum() * torch.ones_like(part) / len(part) ** 0.5,
    ],
    ids=["zeros", "twice as long", "one tensor lost", "signs lost", "nan", "one direction"],
)
def test_broken_maps_are_found(spoil, monkeypatch):
    assert not probe_projection(Broken(spoil)).sound
    monkeypatch.setattr("motive_fo.attribution.projection.build_projection", lambda *_, **__: Broken(spoil))
    (line,) = doctor._projection()
    assert line.level == "fail"
    assert "do not trust" in line.text
