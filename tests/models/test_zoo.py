import json

import pytest
import torch

from atrous.errors import ConfigError
from atrous.model_options import BuildOptions
from atrous.models import build_model, model_names
from atrous.models.layers import on_meta_device
from atrous.models.zoo import VARIANTS, describe_models, rebuild_model, set_output_stride


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
    for row in rows:
        with on_meta_device():
            model = build_model(row.name)
        assert row.num_parameters == count(model), row.name


BLOCK_OF_RESNET50 = 3 * (2 * 2048 * 512 + 9 * 512 * 512 + 2 * (512 + 512 + 2048))
RESNET50 = 23_508_032


@pytest.mark.parametrize(
    ("name", "options", "num_parameters"),
    [
        # torchvision's: fcn_resnet50 of 21 classes, with its auxiliary head.
        ("fcn_resnet50", {"auxiliary": True}, 35_322_218),
        # segmentation-models-pytorch's Unet("resnet34") of one class.
        ("unet_resnet34", {"num_classes": 1}, 24_436_369),
        # The U-Net of two classes as usually written, with batch norm: 31.0 million.
        ("unet", {"num_classes": 2}, 31_037_698),
        # 29.46 million in ENet's comparison (arXiv:1606.02147, table 3).
        ("segnet", {}, 29_455_125),
        # 54.71 million as usually quoted, with plain convolutions in ASPP and decoder.
        ("deeplabv3plus_xception65", {}, 54_711_461),
        # Each block of the cascade is a copy of the last one, its shortcut without weights.
        ("deeplabv3_resnet50", {"cascade_blocks": 4}, RESNET50 + 2048 * 21 + 21),
        (
            "deeplabv3_resnet50",
            {"cascade_blocks": 7, "output_stride": 256},
            RESNET50 + 3 * BLOCK_OF_RESNET50 + 2048 * 21 + 21,
        ),
    ],
)
def test_parameters_are_those_of_the_papers_and_well_known_code(name, options, num_parameters):
    with torch.device("meta"):
        model = build_model(name, **options)
    assert count(model) == num_parameters


def test_unet_has_the_papers_parameters_but_for_its_norms():
    with torch.device("meta"):
        model = build_model("unet", in_channels=1, num_classes=2)
    convs = [
        m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    assert len(convs) == 23  # "In total the network has 23 convolutional layers."
    missing_biases = sum(conv.out_channels for conv in convs if conv.bias is None)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert count(model) - sum(map(count, norms)) + missing_biases == 31_030_658


def test_pspnet_has_its_authors_parameters_but_for_their_stem():
    with torch.device("meta"):
        model = build_model("pspnet_resnet50")
    # Three 3x3 convolutions, 64, 64 and 128 wide, in place of the 7x7, and a wider layer1.
    convs = 9 * (3 * 64 + 64 * 64 + 64 * 128) - 49 * 3 * 64 + 64 * (64 + 256)
    norms = 2 * (64 + 64 + 128) - 2 * 64
    assert round((count(model) + convs + norms) / 1e6, 3) == 46.716  # as usually quoted


def test_separable_convolutions_save_what_the_paper_says():
    with torch.device("meta"):
        plain, separable = (
            build_model("deeplabv3plus_resnet50", separable=separable)
            for separable in (False, True)
        )
    for view, thin in zip(plain.head.aspp.convs[1:4], separable.head.aspp.convs[1:4], strict=True):
        assert count(view[0]) == 9 * 2048 * 256
        assert count(thin[0]) + count(thin[3]) == 9 * 2048 + 2048 * 256
        assert thin[0].dilation == view[0].dilation
    convs = [thin for part in separable.head.decoder for thin in part if hasattr(thin, "groups")]
    assert [conv.groups for conv in convs] == [304, 1, 256, 1]


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
        ("deeplabv3_resnet50", {"atrous_rates": "fit"}, ["training images", "fit_rates"]),
        ("deeplabv3_resnet50", {"multi_grid": (1, 2)}, ["multi_grid", "three"]),
        ("deeplabv3_resnet50", {"num_classes": 0}, ["num_classes"]),
        ("deeplabv3_resnet50", {"num_classes": True}, ["num_classes"]),
        ("deeplabv3_resnet50", {"dropout": 1.0}, ["dropout"]),
        ("deeplabv3_resnet50", {"norm": ["batch"]}, ["norm", "'group'"]),
        ("deeplabv3_mobilenet_v3_large", {"multi_grid": (1, 2, 4)}, ["no option 'multi_grid'"]),
        ("deeplabv3_resnet50", {"decoder_channels": 128}, ["no option 'decoder_channels'"]),
        ("deeplabv3_resnet50", {"output_stride": 64}, ["8, 16 or 32", "64", "cascade_blocks"]),
        ("deeplabv3_resnet50", {"cascade_blocks": 8}, ["cascade_blocks", "4, 5, 6 or 7", "8"]),
        (
            "deeplabv3_resnet50",
            {"cascade_blocks": 5, "output_stride": 128},
            ["8, 16, 32 or 64", "cascade_blocks=5", "128"],
        ),
        (
            "deeplabv3_resnet50",
            {"cascade_blocks": 5, "atrous_rates": (6, 12, 18)},
            ["atrous_rates", "exclude"],
        ),
        ("deeplabv3_mobilenet_v3_large", {"cascade_blocks": 5}, ["no option 'cascade_blocks'"]),
        ("unet", {"output_stride": 8}, ["unet has no option 'output_stride'"]),
        ("segnet", {"auxiliary": True}, ["segnet has no option 'auxiliary'"]),
        ("segnet", {"dropout": 0.1}, ["segnet has no option 'dropout'"]),
        ("unet", {"in_channels": 0}, ["in_channels"]),
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


def test_a_model_without_output_stride_says_so():
    with pytest.raises(ConfigError, match="unet has no option output_stride, got 8"):
        set_output_stride(build_model("unet"), 8)
    model = build_model("unet")
    assert set_output_stride(model, None) is model


def test_every_option_is_documented_and_offered_by_a_variant():
    offered = {name for variant in VARIANTS.values() for name in variant.options}
    assert offered == set(BuildOptions.model_fields)
    for name, field in BuildOptions.model_fields.items():
        assert f"        - {name} (default {field.default!r}): " in build_model.__doc__
        assert field.description.split()[0] in build_model.__doc__
