"""Valid taps, compared with convolutions of ones."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from atrous.profile.taps import compute_tap_shares, compute_valid_taps, list_taps


def count_by_convolution(map_hw, rate, kernel_size=3, stride=1, padding=None):
    padding = rate * (kernel_size // 2) if padding is None else padding
    ones, kernel = torch.ones(1, 1, *map_hw), torch.ones(1, 1, kernel_size, kernel_size)
    return F.conv2d(ones, kernel, stride=stride, padding=padding, dilation=rate)[0, 0]


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 24),
    st.sampled_from([2, 3, 5]),
    st.integers(1, 3),
)
def test_the_mean_equals_a_convolution_of_ones(map_hw, rate, kernel_size, stride):
    padding = rate * (kernel_size - 1)  # never smaller than the kernel
    valid = compute_valid_taps(
        map_hw,
        rate_hw=(rate, rate),
        kernel_hw=(kernel_size, kernel_size),
        stride_hw=(stride, stride),
        padding_hw=(padding, padding),
    )
    counted = count_by_convolution(map_hw, rate, kernel_size, stride, padding)
    assert valid == pytest.approx(counted.double().mean().item(), rel=1e-6)


@pytest.mark.parametrize("rate", [1, 2, 6, 12, 16, 18, 24, 33, 64, 65, 90])
@pytest.mark.parametrize("map_hw", [(16, 16), (65, 65), (9, 33)])
def test_shares_and_the_closed_formula(map_hw, rate):
    counted = Counter(count_by_convolution(map_hw, rate).flatten().int().tolist())
    places = map_hw[0] * map_hw[1]
    shares = compute_tap_shares(map_hw, rate)
    assert {n: share for n, share in shares.items() if share} == {
        n: pytest.approx(times / places) for n, times in counted.items()
    }
    formula = 1.0
    for size in map_hw:
        formula *= 1 + 2 * max(0, 1 - rate / size)
    assert compute_valid_taps(map_hw, rate_hw=(rate, rate)) == pytest.approx(formula)
    assert sum(n * share for n, share in shares.items()) == pytest.approx(formula)


def test_at_the_side_of_the_map_an_atrous_convolution_is_its_centre_tap():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 5, 3, padding=16, dilation=16)
    for side, is_pointwise in ((16, True), (17, False)):
        features = torch.randn(2, 4, side, side)
        pointwise = F.conv2d(features, conv.weight[:, :, 1:2, 1:2], conv.bias)
        equal = torch.allclose(conv(features), pointwise, atol=1e-6)
        conv.zero_grad()
        conv(features).square().sum().backward()
        outer = conv.weight.grad.clone()
        outer[:, :, 1, 1] = 0
        assert equal == is_pointwise == (outer.count_nonzero() == 0)
        assert (compute_valid_taps((side, side), rate_hw=(16, 16)) == 1) == is_pointwise


def count_used(size, **options):
    return len(set().union(*list_taps(size, **options)))


def test_used_taps_are_inside_the_map_for_some_position():
    assert count_used(16, rate=16) == 1
    assert count_used(16, rate=15) == 3
    assert count_used(4, rate=3, kernel_size=5) == 3
    # With a stride, the last tap of the last position is outside.
    assert [len(taps) for taps in list_taps(4, rate=3, stride=2)] == [2, 1]
    assert count_used(4, rate=3, stride=2) == 2
