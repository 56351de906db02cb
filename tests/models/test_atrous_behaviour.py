"""What atrous convolution is for: the same features, more densely."""

import pytest
import torch

from atrous.models import build_model
from atrous.models.aspp import ASPP
from atrous.models.efficientnet_lite import EfficientNetLite
from atrous.models.mobilenet import MobileNetV3Large
from atrous.models.resnet import ResNet
from atrous.models.xception import Xception65
from atrous.models.zoo import set_output_stride


def build_backbone(depth, output_stride, multi_grid=(1, 1, 1)):
    if depth == "mobilenet":
        return MobileNetV3Large(output_stride=output_stride)
    if depth == "efficientnet":
        return EfficientNetLite(1, output_stride=output_stride)
    if depth == "xception":
        return Xception65(output_stride=output_stride)
    return ResNet(depth, output_stride=output_stride, multi_grid=multi_grid)


@pytest.mark.parametrize("size_hw", [(65, 97), (45, 34)])
@pytest.mark.parametrize(
    ("depth", "coarse_stride", "multi_grid"),
    [
        (18, 16, (1, 1, 1)),
        (18, 32, (1, 1, 1)),
        (34, 16, (1, 2, 4)),
        (50, 16, (1, 1, 1)),
        (50, 32, (1, 1, 1)),
        ("mobilenet", 16, (1, 1, 1)),
        ("efficientnet", 16, (1, 1, 1)),
        ("efficientnet", 32, (1, 1, 1)),
        ("xception", 32, (1, 1, 1)),
    ],
)
@torch.inference_mode()
def test_dense_features_subsampled_are_the_coarse_ones(
    depth, coarse_stride, multi_grid, size_hw, randomise_norms
):
    torch.manual_seed(0)
    coarse = randomise_norms(build_backbone(depth, coarse_stride, multi_grid)).eval()
    dense = build_backbone(depth, coarse_stride // 2, multi_grid).eval()
    dense.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, *size_hw)
    for model in (coarse, dense):
        fix_squeeze(model)
    expected, features = coarse(image)[-1], dense(image)[-1]
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(features[:, :, ::2, ::2], expected, rtol=0, atol=tolerance)


def fix_squeeze(model):
    """Take the mean over the image out of the gates of MobileNet: more positions, another mean."""
    for module in model.modules():
        if hasattr(module, "scale_activation"):
            torch.nn.init.zeros_(module.fc2.weight)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.inference_mode()
def test_shifting_the_image_shifts_the_features(output_stride, randomise_norms):
    torch.manual_seed(0)
    backbone = randomise_norms(ResNet(18, output_stride=output_stride)).eval()
    image = torch.randn(1, 3, 32, 640 + output_stride)
    before = backbone(image[..., :640])[-1]
    after = backbone(image[..., output_stride:])[-1]
    border = 224 // output_stride  # half the receptive field of 435 pixels
    expected = before[..., border + 1 : -border]
    assert expected.shape[-1] > 4
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(after[..., border : -border - 1], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [9, 16, 33])
@torch.inference_mode()
def test_valid_taps_on_a_small_map(size):
    rates = (1, 6, 16)
    place = torch.arange(size)
    for rate, view in zip(rates, ASPP(1, 1, atrous_rates=rates).convs[1:4], strict=True):
        torch.nn.init.ones_(view[0].weight)
        valid = view[0](torch.ones(1, 1, size, size))[0, 0]
        along = 1 + (place >= rate).int() + (place + rate < size).int()
        assert torch.equal(valid, (along[:, None] * along).float())
        if rate >= size:
            assert (valid == 1).all()  # the 3x3 filter has become a 1x1 (paper, section 3.3)


def test_multi_grid_is_times_the_rate_of_the_stage():
    def rates(output_stride, multi_grid):
        layer4 = ResNet(50, output_stride=output_stride, multi_grid=multi_grid).layer4
        return [block.conv2.dilation[0] for block in layer4]

    assert rates(16, (1, 2, 4)) == [2, 4, 8]
    assert rates(8, (1, 2, 4)) == [4, 8, 16]
    assert rates(32, (1, 2, 1)) == [1, 2, 1]
    assert rates(16, (1, 1, 1)) == [1, 2, 2]
    assert rates(8, (1, 1, 1)) == [2, 4, 4]


# Rates of block4 to block7 by output stride (arXiv:1706.05587, section 3.2 and figure 3b).
CASCADE_RATES = {
    8: [4, 8, 16, 32],
    16: [2, 4, 8, 16],
    32: [1, 2, 4, 8],
    64: [1, 1, 2, 4],
    128: [1, 1, 1, 2],
    256: [1, 1, 1, 1],
}


@pytest.mark.parametrize("output_stride", CASCADE_RATES)
def test_the_cascade_has_the_papers_rates_and_stride(output_stride):
    def find_rates(multi_grid):
        with torch.device("meta"):
            model = build_model(
                "deeplabv3_resnet50",
                cascade_blocks=7,
                output_stride=output_stride,
                multi_grid=multi_grid,
            )
            logits = model.head(model.backbone(torch.empty(2, 3, 512, 256)))
        assert logits.shape[-2:] == (512 // output_stride, 256 // output_stride)
        blocks = [model.backbone.layer4, model.head.block5, model.head.block6, model.head.block7]
        return [[layer.conv2.dilation[0] for layer in block] for block in blocks]

    rates = CASCADE_RATES[output_stride]
    assert [block[1:] for block in find_rates((1, 1, 1))] == [[rate] * 2 for rate in rates]
    assert find_rates((1, 2, 4)) == [[rate, 2 * rate, 4 * rate] for rate in rates]


@pytest.mark.parametrize("coarse_stride", [16, 64])
@torch.inference_mode()
def test_a_dense_cascade_subsampled_is_the_coarse_one(coarse_stride, randomise_norms):
    torch.manual_seed(0)
    coarse = build_model("deeplabv3_resnet18", cascade_blocks=7, output_stride=coarse_stride)
    randomise_norms(coarse).eval()
    dense = set_output_stride(coarse, coarse_stride // 2)
    image = torch.randn(1, 3, 130, 97)
    expected, logits = (model.head(model.backbone(image)) for model in (coarse, dense))
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(logits[:, :, ::2, ::2], expected, rtol=0, atol=tolerance)
