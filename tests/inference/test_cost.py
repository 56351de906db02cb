"""What a picture costs: parameters, turns, and a real measurement."""

from atrous.classes import build_classes
from atrous.inference.cost import (
    count_parameters,
    measure_costs,
    measure_times_s,
)
from atrous.models import ModelCard, build_model


def test_the_auxiliary_head_costs_nothing_in_use():
    plain, auxiliary = (
        build_model("deeplabv3_resnet18", num_classes=3, auxiliary=auxiliary)
        for auxiliary in (False, True)
    )
    assert count_parameters(auxiliary) == count_parameters(plain)
    assert sum(p.numel() for p in auxiliary.parameters()) > count_parameters(plain)


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
