"""Profiles: sums, published FLOPs and warnings."""

import json

import pytest
import torch
from torchvision.models import get_model_weights

from atrous.errors import ConfigError
from atrous.models import build_model, model_names
from atrous.profile import profile_model
from atrous.profile.atrous_convs import compute_warnings, describe_atrous_convs
from atrous.profile.flops import count_flops
from atrous.profile.parts import describe_parts
from atrous.profile.trace import AUXILIARY, trace_calls


def build_on_meta(name, **options):
    with torch.device("meta"):
        return build_model(name, **options)


def find_warnings(model, side_px):
    return compute_warnings(describe_atrous_convs(trace_calls(model, (side_px, side_px))))


# Deeper backbones have the same structure.
NAMES = [name for name in model_names() if not name.endswith(("resnet34", "resnet50", "resnet101"))]


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_every_model_are_the_whole(name):
    model = build_on_meta(name, num_classes=5)
    parts = describe_parts(model, trace_calls(model, (96, 64)), {}, {})
    assert len(parts) > 3
    assert len({part.name for part in parts}) == len(parts)
    assert sum(p.num_parameters for p in parts) == sum(p.numel() for p in model.parameters())
    flops = sum(part.gflops for part in parts) * 1e9
    assert flops == pytest.approx(count_flops(model, (96, 64)), rel=1e-9)


@pytest.mark.parametrize(
    "name", ["deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"]
)
def test_traced_flops_equal_those_published_by_torchvision(name):
    """Its figure counts a multiply-add as one, at 520x520, with the auxiliary head."""
    published = get_model_weights(name)["COCO_WITH_VOC_LABELS_V1"].meta["_ops"]
    output_stride = 16 if "mobilenet" in name else 8
    model = build_on_meta(
        name, output_stride=output_stride, atrous_rates=(12, 24, 36), auxiliary=True
    )
    flops = sum(call.flops for call in trace_calls(model, (520, 520)))
    assert flops / 2e9 == pytest.approx(published, rel=1e-3)


def test_the_settings_of_the_report_give_a_warning():
    warnings, notes = find_warnings(build_on_meta("deeplabv3_report"), 256)
    assert len(warnings) == 1
    assert "head.aspp.3: rate 16 on a 16×16 map: only its centre tap" in warnings[0]
    assert "Rates up to 7 " in warnings[0]
    assert ["rate 8 " in note or "rate 12 " in note for note in notes] == [True, True]
    warnings, _ = find_warnings(build_on_meta("deeplabv3_report", atrous_rates=(12, 16, 24)), 256)
    assert ["rate 16 " in text or "rate 24 " in text for text in warnings] == [True, True]


def test_no_warning_if_the_taps_are_inside_the_map():
    # 257 px give a map of 17 cells: the first size at which rate 16 is more than its centre.
    assert find_warnings(build_on_meta("deeplabv3_report"), 257)[0] == []
    assert find_warnings(build_on_meta("deeplabv3_resnet50"), 513)[0] == []
    assert find_warnings(build_on_meta("deeplabv3_resnet50"), 769) == ([], [])
    # A finer map helps only with the same rates; default rates scale with the output stride.
    for rates, is_fine in (((8, 12, 16), True), (None, False)):
        finer = build_on_meta("deeplabv3_report", output_stride=8, atrous_rates=rates)
        assert (find_warnings(finer, 256)[0] == []) == is_fine


def test_idle_taps_along_one_axis_give_a_warning():
    calls = trace_calls(build_on_meta("deeplabv3_report"), (256, 512))
    warnings, _ = compute_warnings(describe_atrous_convs(calls))
    assert len(warnings) == 1
    assert "only 3 of its 9 taps" in warnings[0]
    assert "×1 convolution" not in warnings[0]


def test_a_profile_has_all_its_keys_in_json():
    torch.manual_seed(0)
    model = build_model("deeplabv3plus_resnet18", num_classes=5, auxiliary=True)
    profile = profile_model(model, size_hw=(64, 96), batch_size=2)
    values = json.loads(json.dumps(profile.to_json()))
    assert {"name", "rate", "map_hw", "valid_taps"} <= set(values["atrous_convs"][0])
    rates = {conv["name"]: conv["rate"] for conv in values["atrous_convs"]}
    assert rates["head.aspp.convs.2.0"] == 12
    assert all(conv["map_hw"] == [4, 6] for conv in values["atrous_convs"])
    parts = {part["name"]: part for part in values["parts"]}
    assert {"backbone.layer1", "head.aspp", "head.decoder", "head.classifier"} <= set(parts)
    assert parts["backbone.layer1"]["map_hw"] == [16, 24]
    assert parts["backbone.layer1"]["channels"] == 64
    fields_px = {name: part["receptive_field_px"] for name, part in parts.items()}
    assert fields_px["backbone.layer4"] > fields_px["backbone.layer1"] > 3
    assert fields_px["head.classifier"] is not None
    auxiliary_gflops = parts[AUXILIARY]["gflops"]
    assert sum(part["gflops"] for part in values["parts"]) == pytest.approx(
        values["gflops"] + auxiliary_gflops
    )
    assert values["saved_mb"] == pytest.approx(sum(p["saved_mb"] for p in values["parts"]))
    assert 0 < values["inference_mb"] < values["saved_mb"]


def test_images_that_are_too_small_are_an_error():
    with pytest.raises(ConfigError, match="at least 32 px"):
        profile_model(build_on_meta("deeplabv3_resnet18"), size_hw=(16, 256))
