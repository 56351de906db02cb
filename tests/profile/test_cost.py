"""The cost of inference: parameters, FLOPs, and a real measurement."""

import pytest

from atrous.classes import build_classes
from atrous.engines import TTA
from atrous.models import ModelCard, build_model
from atrous.profile import cost
from atrous.profile.cost import compute_other_load, count_parameters, measure_costs
from atrous.timing import measure_times_s


def test_the_auxiliary_head_is_not_counted():
    plain, auxiliary = (
        build_model("deeplabv3_resnet18", num_classes=3, auxiliary=auxiliary)
        for auxiliary in (False, True)
    )
    assert count_parameters(auxiliary) == count_parameters(plain)
    assert sum(p.numel() for p in auxiliary.parameters()) > count_parameters(plain)


def test_calls_take_turns_within_the_budget():
    order = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    times_s = measure_times_s(calls, budget_s=0, min_rounds=3)
    assert order == ["a", "b"] * 4  # one round to warm up
    assert [len(own) for own in times_s] == [3, 3]
    assert len(measure_times_s(calls, budget_s=60, min_rounds=3, max_rounds=5)[0]) == 5


def build(name, **options):
    model = build_model(name, num_classes=3, **options)
    classes = build_classes(["a", "b", "c"])
    model.card = ModelCard(name, model.options, classes, (0.5,) * 3, (0.25,) * 3, None, {})
    return model


@pytest.mark.slow
def test_a_measured_cost_is_plausible():
    models = [
        build("deeplabv3plus_mobilenet_v3_large", output_stride=32, dropout=0.1),
        build("deeplabv3_resnet34", output_stride=8, dropout=0.1),
    ]
    tta = TTA((0.75, 1), samples=2)
    small, large = measure_costs(models, size_hw=(96, 128), tta=tta, budget_s=0.5)
    assert large.gflops > 2 * small.gflops
    assert large.latency_ms > small.latency_ms > 0
    assert large.memory_mb > small.memory_mb
    for one in (small, large):
        low, high = one.latency_range_ms
        assert low <= one.latency_ms <= high
        assert one.size_hw == (96, 128)
        # At least the weights, at most weights and features.
        assert 4e-6 * one.num_parameters < one.memory_mb < 4e-6 * one.num_parameters + 400
        assert "128×96 px, scale 0.75, 1, no flip" in one.describe_conditions()


def test_flops_include_all_passes(monkeypatch):
    monkeypatch.setattr(cost, "_measure_memory_mb", lambda engine, image: None)
    model = build("deeplabv3_mobilenet_v3_large", dropout=0.5)

    def measure(size_hw, **tta):
        (own,) = measure_costs([model], size_hw=size_hw, tta=TTA(**tta), budget_s=0)
        assert own.tta == TTA(**tta)
        return own.gflops

    one, half = measure((96, 128)), measure((48, 64))
    assert measure((96, 128), scales=(0.5,)) == half < one
    assert measure((96, 128), scales=(0.5, 1), flip=True) == 2 * (half + one)
    assert measure((96, 128), samples=3) == 3 * one
    assert measure((96, 256), window_px=96, overlap=0) == 3 * measure((96, 96))


def test_the_load_of_other_programs_is_their_share_of_the_processor():
    assert compute_other_load((100.0, 400.0), (104.0, 420.0)) == pytest.approx(0.2)
    assert compute_other_load((100.0, 400.0), (99.9, 420.0)) == 0
    assert compute_other_load(None, (1.0, 2.0)) is None
    assert compute_other_load((1.0, 2.0), (1.0, 2.0)) is None
