"""The gradient step with sketches kept in float16."""

from dataclasses import replace

import numpy as np
import pytest

from motive_fo.errors import StoreMismatchError
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.store.run_store import RunStore


def test_float16_rounds_what_is_kept_and_nothing_else(tmp_path, records, settings):
    half = GradientSettings.build(
        settings.motion, replace(settings.attribution, sketch_dtype="float16"), settings.model
    )
    chosen, ids = records["train"][:2], [record.id for record in records["train"][:2]]
    read = {}
    for name, each in (("half", half), ("whole", settings)):
        with RunStore(tmp_path / f"{name}.zarr", write=True) as store:
            compute_sketch_table(chosen, store, each, "train")
            assert compute_sketch_table(chosen, store, each, "train").computed == 0
            read[name] = {key: store.sketches("train").read(key, ids) for key in ("sketch", "norm", "squares", "loss")}
    for key in ("norm", "squares", "loss"):
        np.testing.assert_array_equal(read["half"][key], read["whole"][key])
    unlike = read["half"]["sketch"] - read["whole"]["sketch"]
    largest = np.abs(read["whole"]["sketch"]).max(-1, keepdims=True)
    assert np.isfinite(read["whole"]["sketch"]).all()
    assert 0 < np.abs(unlike / largest).max() <= 2**-11
    with (
        RunStore(tmp_path / "whole.zarr", write=True) as store,
        pytest.raises(StoreMismatchError, match="sketch_dtype: stored None, asked for 'float16'"),
    ):
        compute_sketch_table(chosen, store, half, "train")
