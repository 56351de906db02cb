import json

import pytest
import torch

from atrous.errors import ConfigError
from atrous.models import build_model, model_names
from atrous.models.zoo import describe_models, rebuild_model, set_output_stride


def count(module):
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_the_report_has_the_reports_parameters():
    with torch.device("meta"):
        model = build_model("deeplabv3_report")
    head = model.head
    assert count(model) == 39_703_423
    assert count(model.backbone) == 23_508_032
    assert count(head.aspp) + count(head.pooling) == 15_205_632
    decoder = (head.project, head.conv, head.refine, head.classifier)
    assert [count(part) for part in decoder] == [327_936, 590_080, 65_792, 5_397]
    assert count(head.conv_norm) + count(head.classifier_norm) == 2 * 256 + 2 * 21


def test_the_table_lists_all_variants():
    rows = describe_models()
    assert [row.name for row in rows] == model_names()
    assert {row.name: row.num_parameters for row in rows}["deeplabv3_resnet50"] == 39_638_869


@pytest.mark.parametrize(
    ("name", "output_stride", "rates"),
    [
        ("deeplabv3_resnet18", 8, [12, 24, 36]),
        ("deeplabv3_resnet18", 16, [6, 12, 18]),
        ("deeplabv3_resnet18", 32, [3, 6, 9]),
        ("deeplabv3_report", 16, [8, 12, 16]),
    ],
)
def test_rates_follow_the_output_stride(name, output_stride, rates):
    with torch.device("meta"):
        model = build_model(name, output_stride=output_stride)
    assert find_rates(model) == rates


def find_rates(model):
    return [
        module.dilation[0]
        for module in model.head.modules()
        if isinstance(module, torch.nn.Conv2d) and module.dilation[0] > 1
    ]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("deeplabv3_resnet5", {}, ["deeplabv3_resnet50"]),
        ("deeplabv3_resnet50", {"output_strid": 8}, ["output_strid", "output_stride"]),
        ("deeplabv3_resnet50", {"output_stride": 4}, ["8, 16 or 32", "4"]),
        ("deeplabv3_resnet50", {"output_stride": 16.0}, ["8, 16 or 32", "16.0"]),
        ("deeplabv3_resnet50", {"atrous_rates": (6, 0, 18)}, ["atrous_rates", "at least 1"]),
        ("deeplabv3_resnet50", {"multi_grid": (1, 2)}, ["multi_grid", "three"]),
        ("deeplabv3_resnet50", {"num_classes": 0}, ["num_classes"]),
        ("deeplabv3_resnet50", {"num_classes": True}, ["num_classes"]),
        ("deeplabv3_resnet50", {"dropout": 1.0}, ["dropout"]),
        ("deeplabv3_resnet50", {"norm": ["batch"]}, ["norm", "'group'"]),
        ("deeplabv3_mobilenet_v3_large", {"multi_grid": (1, 2, 4)}, ["no option 'multi_grid'"]),
        ("deeplabv3_resnet50", {"decoder_channels": 128}, ["no option 'decoder_channels'"]),
    ],
)
def test_what_cannot_be_built_says_why(name, options, words):
    with pytest.raises(ConfigError) as caught:
        build_model(name, **options)
    for word in words:
        assert word in str(caught.value)


def test_options_are_complete_and_build_the_same_model_after_json():
    options = {"num_classes": 4, "multi_grid": (1, 2, 4), "output_stride": 8}
    model = build_model("deeplabv3plus_resnet18", **options, decoder_channels=64)
    again = build_model(model.name, **json.loads(json.dumps(model.options)))
    assert again.options == model.options
    assert str(again) == str(model)
    # A default is no complaint: one recipe can be tried on every variant.
    build_model("deeplabv3_mobilenet_v3_large", multi_grid=(1, 1, 1), decoder_channels=256)


@pytest.mark.parametrize("name", ["deeplabv3_resnet18", "deeplabv3plus_mobilenet_v3_large"])
def test_another_output_stride_is_the_model_built_so(name, randomise_norms):
    model = randomise_norms(build_model(name, num_classes=3, atrous_rates=(2, 4, 6))).eval()
    dense = set_output_stride(model, 8)
    assert not dense.training
    assert find_rates(dense)[:3] == [4, 8, 12]
    assert find_rates(model)[:3] == [2, 4, 6]
    expected = build_model(name, num_classes=3, output_stride=8, atrous_rates=(4, 8, 12)).eval()
    expected.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(dense(image), expected(image))
    back = set_output_stride(dense, 16)
    assert back.options == model.options


@pytest.mark.parametrize("change", [{"num_classes": 4}, {"norm": "group"}, {"auxiliary": True}])
def test_rebuilding_keeps_the_weights_or_refuses(change):
    model = build_model("deeplabv3_resnet18", num_classes=3)
    with pytest.raises(ConfigError, match="output_stride"):
        rebuild_model(model, **change)
