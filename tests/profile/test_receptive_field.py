"""Measured receptive fields of networks whose fields are known."""

import torch
from torch import nn

from atrous.models import Segmenter, build_model
from atrous.profile.receptive_field import compute_extent, measure_receptive_fields


def build_stub(backbone):
    options = {"num_classes": 2, "in_channels": 3}
    return Segmenter(backbone, nn.Identity(), None, name="stub", options=options)


def test_the_square_contains_its_share():
    energy = torch.zeros(31, 31)
    energy[10:15, 12:19] = 1
    assert compute_extent(energy, 1.0) == 7
    energy[12, 15] = 1e9
    assert compute_extent(energy, 0.95) == 1
    assert compute_extent(torch.zeros(9, 9), 0.95) is None


def test_measured_fields_of_a_linear_network_are_those_of_its_kernels():
    backbone = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=rate, dilation=rate) for rate in (1, 2)))
    for parameter in backbone.parameters():
        nn.init.ones_(parameter)
    measured = measure_receptive_fields(
        build_stub(backbone), (33, 40), ["backbone.0", "backbone"], share=1.0
    )
    assert measured == {"backbone.0": 3, "backbone": 7}


def test_residual_branches_of_random_weights_are_measured_and_do_not_change():
    torch.manual_seed(0)
    model = build_model("deeplabv3_resnet18")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured = measure_receptive_fields(model, (96, 96), ["backbone.layer1", "backbone.layer4"])
    # The shortcuts alone would give the 11 px of the stem.
    assert 11 < measured["backbone.layer1"] <= 43
    assert measured["backbone.layer1"] < measured["backbone.layer4"]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
