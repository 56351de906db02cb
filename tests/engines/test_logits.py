"""Masks computed strip by strip from small logits."""

import pytest
import torch
from torch.nn import functional as F

from atrous.engines.logits import compute_mask, compute_upsampled_mask


@pytest.mark.parametrize("small", [(1, 1), (5, 9), (17, 3), (33, 33)])
@pytest.mark.parametrize("size", [(1, 1), (33, 65), (40, 41), (129, 7)])
def test_it_is_the_mask_of_the_resized_logits(small, size):
    logits = torch.randn(6, *small, generator=torch.Generator().manual_seed(sum(size)))
    shown = logits[:, : size[0], : size[1]]
    resized = F.interpolate(shown[None].double(), size, mode="bilinear", align_corners=False)[0]
    mask = compute_upsampled_mask(logits, size)
    assert (mask.dtype, mask.shape) == (torch.uint8, size)
    first, second = resized.topk(2, dim=0).values
    clear = first - second > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(mask[clear], compute_mask(resized)[clear])


def test_logits_at_the_size_of_the_image_are_not_resized():
    logits = torch.randn(4, 20, 30)
    assert torch.equal(compute_upsampled_mask(logits, (20, 30)), logits.argmax(0).byte())
