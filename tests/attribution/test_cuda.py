"""The projection on a GPU is the same matrix as on the CPU. Skipped where there is no GPU."""

import pytest
import torch

from motive_fo.attribution import counter, fused, hadamard
from motive_fo.attribution.projection import FastfoodProjection, SRHTProjection

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_random_numbers_are_the_same_bits():
    key = counter.derive_key("w")
    assert torch.equal(counter.signs(key, 0, 3, 8, 4096, CPU), counter.signs(key, 0, 3, 8, 4096, CUDA).cpu())
    assert torch.equal(counter.gaussians(key, 1, 3, 8, 4096, CPU), counter.gaussians(key, 1, 3, 8, 4096, CUDA).cpu())


def test_the_sketch_is_the_same_up_to_rounding():
    gradient = torch.randn(100_000)
    projection = FastfoodProjection()
    here = projection.combine({"w": projection.project("w", gradient)})
    there = projection.combine({"w": projection.project("w", gradient.cuda())})
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(hadamard.cuda_kernel() is None, reason="fast-hadamard-transform is not installed")
def test_the_compiled_kernel_agrees_with_torch():
    x = torch.randn(16, 4096, device=CUDA)
    torch.testing.assert_close(hadamard.transform(x), hadamard.transform_reference(x), rtol=1e-4, atol=1e-2)


def test_the_srht_sketch_is_the_same_up_to_rounding():
    gradient = torch.randn(100_000)
    projection = SRHTProjection()
    here = projection.combine({"w": projection.project("w", gradient)})
    there = projection.combine({"w": projection.project("w", gradient.cuda())})
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-3)


def test_the_fused_projection_is_the_same_matrix():
    pytest.importorskip("triton")
    for dtype in (torch.float32, torch.bfloat16):
        assert fused.self_test(CUDA, dtype) < fused.AGREES
        assert fused.usable(torch.device("cuda", 0), dtype)
    x = torch.randn(3_000_000, device=CUDA, dtype=torch.bfloat16)
    made = SRHTProjection().project("w", x)
    assert torch.equal(made, SRHTProjection().project("w", x)), "the same bits every time"
    torch.testing.assert_close(made.cpu(), SRHTProjection().project("w", x.cpu()), rtol=1e-4, atol=1e-3)
