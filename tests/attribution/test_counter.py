"""Philox against its authors' known answers; signs and Gaussians as random as they should be."""

import torch

from motive_fo.attribution import counter

CPU = torch.device("cpu")


def _words(counter_words, key):
    return [int(v) for v in counter.philox(torch.tensor(counter_words, dtype=torch.int64)[:, None], key)[:, 0]]


def test_philox_known_answers():
    # the test vectors published with Random123
    assert _words([0, 0, 0, 0], (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert _words([ones] * 4, (ones, ones)) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert _words(pi, (0xA4093822, 0x299F31D0)) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_numbers_depend_on_their_place_alone():
    key = counter.derive_key("a", 1)
    whole = counter.gaussians(key, 1, 0, 6, 1024, CPU)
    assert torch.equal(whole[2:5], counter.gaussians(key, 1, 2, 3, 1024, CPU))
    assert not torch.equal(whole, counter.gaussians(counter.derive_key("b", 1), 1, 0, 6, 1024, CPU))
    assert not torch.equal(whole, counter.gaussians(key, 2, 0, 6, 1024, CPU))


def test_signs_are_fair_and_independent():
    signs = counter.signs(counter.derive_key("s"), 0, 0, 64, 4096, CPU).double()
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    n = signs.numel()
    assert abs(float(signs.mean())) < 4 / n**0.5
    correlation = signs @ signs.T / 4096
    off = correlation[~torch.eye(64, dtype=torch.bool)]
    assert float(off.abs().max()) < 5 / 4096**0.5


def test_gaussians_have_normal_moments():
    table = counter.quantiles(CPU).double()
    assert abs(float(table.mean())) < 1e-12
    assert abs(float(table.square().mean()) - 1) < 1e-6
    drawn = counter.gaussians(counter.derive_key("g"), 1, 0, 64, 4096, CPU).double()
    n = drawn.numel()
    assert abs(float(drawn.mean())) < 4 / n**0.5
    assert abs(float(drawn.square().mean()) - 1) < 6 / n**0.5
    assert abs(float((drawn**4).mean()) - 3) < 0.1


def test_signs_are_the_bits_of_the_words_lowest_first():
    key = counter.derive_key("bits")
    words = counter.words(key, 0, 2, 3, 8, CPU)
    expected = [[1 - 2 * ((int(words[r, c // 32]) >> (c % 32)) & 1) for c in range(256)] for r in range(3)]
    assert counter.signs(key, 0, 2, 3, 256, CPU).tolist() == expected
