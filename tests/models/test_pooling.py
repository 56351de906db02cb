"""Pooling and unpooling as torch does them, by other means."""

import pytest
import torch
from torch.nn import functional as F

from atrous.models.pspnet import average_bins
from atrous.models.segnet import unpool


@pytest.mark.parametrize("size_hw", [(1, 1), (4, 5), (7, 12), (33, 60)])
@pytest.mark.parametrize("num_bins", [1, 2, 3, 6])
def test_bins_are_those_of_adaptive_average_pooling(size_hw, num_bins):
    features = torch.randn(2, 3, *size_hw)
    torch.testing.assert_close(
        average_bins(features, num_bins), F.adaptive_avg_pool2d(features, num_bins)
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size_hw", [(1, 1), (4, 6), (5, 7)])
def test_unpooling_puts_values_back_where_they_were(size_hw, memory_format):
    features = torch.randn(2, 3, *size_hw).to(memory_format=memory_format)
    pooled, indices = F.max_pool2d(features, 2, ceil_mode=True, return_indices=True)
    back = unpool(pooled, indices, like=features)
    assert torch.equal(back, F.max_unpool2d(pooled, indices, 2, output_size=size_hw))
    kept = back != 0
    assert torch.equal(back[kept], features[kept])
    assert kept.sum() == pooled.numel()
