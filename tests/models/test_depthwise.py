"""Dilated depthwise convolutions, computed phase by phase in training."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from atrous.models import build_model
from atrous.models.depthwise import DilatedDepthwiseConv2d, speed_up_depthwise


@pytest.mark.parametrize("size_hw", [(16, 16), (13, 22), (9, 40)])
@pytest.mark.parametrize(("kernel_size", "rate"), [(3, 2), (3, 3), (5, 4), (3, 6)])
def test_equals_the_dilated_convolution_in_output_and_gradients(size_hw, kernel_size, rate):
    torch.manual_seed(0)
    options = {"padding": rate * (kernel_size // 2), "dilation": rate, "groups": 5}
    convs = [nn.Conv2d(5, 5, kernel_size, **options).double()]
    convs.append(deepcopy(convs[0]))
    speed_up_depthwise(convs[1])
    assert type(convs[1]) is DilatedDepthwiseConv2d
    image = torch.randn(2, 5, *size_hw, dtype=torch.float64)
    results = []
    for conv in convs:
        features = image.clone().requires_grad_()
        output = conv(features)
        output.sin().sum().backward()
        results.append((output, features.grad, conv.weight.grad, conv.bias.grad))
    torch.testing.assert_close(*results)
    assert torch.equal(convs[0].eval()(image), convs[1].eval()(image))


def test_only_dilated_depthwise_convolutions_of_a_model_change():
    options = {"num_classes": 3, "separable": True}
    model = build_model("deeplabv3plus_efficientnet_lite0", **options)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    speed_up_depthwise(model)
    changed = [m for m in model.modules() if isinstance(m, DilatedDepthwiseConv2d)]
    assert {(m.kernel_size, m.dilation) for m in changed} == {
        ((5, 5), (2, 2)),
        ((3, 3), (2, 2)),
        *(((3, 3), (rate, rate)) for rate in (6, 12, 18)),
    }
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
