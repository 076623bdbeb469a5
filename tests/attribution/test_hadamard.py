"""The fast transform against the definition."""

import pytest
import torch

from motive_fo.attribution import hadamard


def _slow(n):
    """H_n by its definition: the sign is the parity of the bits two indices share."""
    return torch.tensor([[(-1.0) ** bin(i & j).count("1") for j in range(n)] for i in range(n)], dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 32, 64, 128, 512, 1024])
def test_transform_is_the_definition(n):
    x = torch.randn(3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    torch.testing.assert_close(hadamard.transform(x), x @ _slow(n).T)


@pytest.mark.parametrize("n", [4096, 8192, 32768])
def test_twice_is_n_times(n):
    x = torch.randn(2, n, dtype=torch.float64)
    torch.testing.assert_close(hadamard.transform(hadamard.transform(x)), n * x)


def test_sizes_that_are_no_power_of_two_are_refused():
    with pytest.raises(ValueError, match="power of two, not 24"):
        hadamard.matrix(24, torch.device("cpu"))
