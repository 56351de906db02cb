"""Upsampling by matrix products against torch's own."""

import pytest
import torch

from atrous.models.layers import upsample, upsample_by_products


@pytest.mark.parametrize("size_hw", [(513, 513), (360, 481), (1, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_equal_interpolation_forward_and_backward(size_hw, dtype):
    features = torch.randn(2, 3, 33, 23).to(dtype).requires_grad_()
    expected = upsample(features.float(), size_hw)
    with torch.autocast("cpu", torch.bfloat16):
        actual = upsample_by_products(features, size_hw)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad(out, features, weights)[0] for out in (actual, expected)]
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2**-7}[dtype]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=1e-3)
