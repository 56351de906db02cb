"""What a picture costs: hand counts, a published count, turns, and a real measurement."""

import pytest
import torch
from torch import nn

from atrous.classes import build_classes
from atrous.inference.cost import (
    count_flops,
    count_parameters,
    measure_costs,
    measure_times_s,
)
from atrous.models import ModelCard, build_model


def test_operations_of_a_convolution_are_counted_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
    assert count_flops(network, (10, 12)) == 2 * (5 * 6) * 8 * (3 * 3 * 3)


def test_operations_agree_with_those_that_torchvision_publishes():
    # DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["_ops"], in 10⁹ multiply-adds of a
    # 520x520 picture; it has the auxiliary head in it, on 65x65 features.
    auxiliary = 65 * 65 * (1024 * 9 * 256 + 256 * 21)
    model = build_model("deeplabv3_resnet50", output_stride=8)
    assert count_flops(model, (520, 520)) / 2 + auxiliary == pytest.approx(178.722e9, rel=1e-5)


def test_counting_leaves_the_model_as_it_was():
    model = build_model("deeplabv3_resnet18", num_classes=3)
    before = model.training, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_flops(model, (64, 64))
    assert model.training == before[0]
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in model.state_dict().items())


def test_the_auxiliary_head_costs_nothing_in_use():
    plain, auxiliary = (
        build_model("deeplabv3_resnet18", num_classes=3, auxiliary=auxiliary)
        for auxiliary in (False, True)
    )
    assert count_parameters(auxiliary) == count_parameters(plain)
    assert sum(p.numel() for p in auxiliary.parameters()) > count_parameters(plain)
    assert count_flops(auxiliary, (64, 96)) == count_flops(plain, (64, 96))


def test_calls_take_turns_within_the_budget():
    order = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    times_s = measure_times_s(calls, budget_s=0, fewest=3)
    assert order == ["a", "b"] * 4  # one round to warm up
    assert [len(own) for own in times_s] == [3, 3]
    assert len(measure_times_s(calls, budget_s=60, fewest=3, most=5)[0]) == 5


def test_a_measured_cost_is_plausible():
    models = [
        build_model("deeplabv3plus_mobilenet_v3_large", num_classes=3, output_stride=32),
        build_model("deeplabv3_resnet34", num_classes=3, output_stride=8),
    ]
    classes = build_classes(["a", "b", "c"])
    for model in models:
        model.card = ModelCard(
            model.name, model.options, classes, (0.5,) * 3, (0.25,) * 3, None, {}
        )
    small, large = measure_costs(models, size_hw=(96, 128), budget_s=0.5)
    assert large.gflops > 2 * small.gflops
    assert large.latency_ms > small.latency_ms > 0
    assert large.memory_mb > small.memory_mb
    for cost in (small, large):
        low, high = cost.latency_range_ms
        assert low <= cost.latency_ms <= high
        assert cost.size_hw == (96, 128)
        # At least the weights, and no more than weights and features can fill.
        assert 4e-6 * cost.num_parameters < cost.memory_mb < 4e-6 * cost.num_parameters + 400
