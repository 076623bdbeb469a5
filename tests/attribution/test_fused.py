"""The fused projection: the same matrix as plain torch, and plain torch wherever it cannot be trusted.

The kernel runs in triton's interpreter on the CPU, in a process of its own: it is chosen when triton is imported.
"""

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec

import pytest
import torch

from motive_fo.attribution import fused
from motive_fo.attribution.projection import SRHTProjection

_AGREEMENT = """
import torch
from motive_fo.attribution import fused
from motive_fo.attribution.projection import SRHTProjection

fused._PROGRAMS = 3  # several blocks to a program, unevenly
cases = [
    (512, 4096, (1, 513, 2049, 4096, 4 * 4096 + 1500)),
    (256, 1024, (200, 300, 1025, 5 * 1024)),
    (1024, 2048, (5000,)),
]
for dimension, block, sizes in cases:
    plain, made = SRHTProjection(dimension, block, 7, fused=False), SRHTProjection(dimension, block, 7)
    for size in sizes:
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)
            x[::7] *= 1e4  # large and small numbers beside each other
            one, other = plain.project("w", x), made.project_fused("w", x)
            assert torch.equal(other, made.project_fused("w", x))
            print(dimension, block, size, dtype, float((one - other).norm() / one.norm()))
assert not made.project_fused("w", torch.zeros(0)).any()
print("self-test", fused.self_test(torch.device("cpu"), torch.float32))
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton comes with CUDA builds of torch")
def test_the_kernel_is_the_same_matrix():
    out = subprocess.run(
        [sys.executable, "-c", _AGREEMENT],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    differences = {line: float(line.split()[-1]) for line in out.splitlines()}
    assert len(differences) == 2 * (5 + 4 + 1) + 1
    assert all(difference < 1e-6 for difference in differences.values()), out


_COMPILED = """
import sys
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from motive_fo.attribution.fused import _FACTORS
from motive_fo.attribution.fused_kernel import kernel

for kind, size in (("bf16", 4096), ("fp32", 512)):
    a, b = _FACTORS[size]
    known = dict(N=size, A=a, B=b, D=512, SIGNS=0, ROWS=3, SHORT=kind == "bf16", DOT=tl.bfloat16)
    types = dict(x=f"*{kind}", parts="*fp32", numel="i32", first="i32", blocks="i32", k0="i32", k1="i32")
    types |= dict.fromkeys(known, "constexpr")
    given = {(list(types).index(name),): value for name, value in known.items()}
    made = compile(ASTSource(kernel, types, given), target=GPUTarget("cuda", int(sys.argv[1]), 32))
    print(kind, made.asm["ptx"].count("mma"), "atom" in made.asm["ptx"], ".local" in made.asm["ptx"])
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton comes with CUDA builds of torch")
@pytest.mark.parametrize("architecture", ["80", "90"])
def test_the_kernel_compiles_to_tensor_cores_without_atomics_and_spills(architecture, tmp_path):
    """For a GPU that need not be here."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    out = subprocess.run(
        [sys.executable, "-c", _COMPILED, architecture], check=True, capture_output=True, text=True, env=environment
    ).stdout
    for line in out.splitlines():
        _, products, atomics, spills = line.split()
        assert int(products) > 0
        assert (atomics, spills) == ("False", "False")
    assert len(out.splitlines()) == 2


def test_sizes_without_a_kernel_are_left_to_plain_torch():
    assert fused.covers(512, 4096)
    assert not fused.covers(128, 4096)
    assert not fused.covers(512, 16384)


def test_a_cpu_never_asks_for_it(monkeypatch):
    monkeypatch.setattr(fused, "usable", lambda *_: pytest.fail("asked"))
    assert SRHTProjection().project("w", torch.ones(5000)).any()


@pytest.fixture
def gpu(monkeypatch):
    """``usable`` as if there were triton, nothing known yet."""
    monkeypatch.setattr(fused, "find_spec", lambda name: object())
    fused.usable.cache_clear()
    yield torch.device("cpu"), torch.float32
    fused.usable.cache_clear()


def test_one_that_agrees_is_used(gpu, monkeypatch):
    monkeypatch.setattr(fused, "self_test", lambda *_: 1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fused.usable(*gpu)


def test_one_that_differs_or_does_not_compile_is_not_used_and_said(gpu, monkeypatch):
    def broken(*_):
        raise RuntimeError("ptxas is missing")

    for made, problem in ((lambda *_: 3e-3, "differs from plain torch by 3.0e-03"), (broken, "ptxas is missing")):
        fused.usable.cache_clear()
        monkeypatch.setattr(fused, "self_test", made)
        with pytest.warns(RuntimeWarning, match=problem):
            assert not fused.usable(*gpu)
    fused.usable.cache_clear()
    monkeypatch.setattr(fused, "self_test", lambda *_: float("nan"))
    with pytest.warns(RuntimeWarning, match="differs"):
        assert not fused.usable(*gpu)


def test_it_can_be_switched_off(gpu, monkeypatch):
    monkeypatch.setattr(fused, "self_test", lambda *_: pytest.fail("tried"))
    monkeypatch.setenv(fused.SWITCH, "0")
    assert not fused.usable(*gpu)
