"""The same networks in segmentation-models-pytorch and timm, with their weights."""

import re

import pytest
import torch

from atrous.models import build_model, load_weights
from atrous.models.deeplabv3 import DeepLabv3Head
from atrous.models.interfaces import Backbone

smp = pytest.importorskip("segmentation_models_pytorch")
timm = pytest.importorskip("timm")


def assert_close(actual, expected):
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def load_renamed(module, state, rename):
    module.load_state_dict({rename(key): tensor for key, tensor in state.items()})


@pytest.mark.parametrize("in_channels", [3, 1])
@torch.inference_mode()
def test_unet_resnet34_is_smps(in_channels, randomise_norms):
    torch.manual_seed(0)
    peer = smp.Unet("resnet34", encoder_weights=None, in_channels=in_channels, classes=4)
    randomise_norms(peer).eval()
    model = build_model("unet_resnet34", num_classes=4, in_channels=in_channels).eval()

    def rename(key):
        block = re.fullmatch(r"decoder\.blocks\.(\d)\.conv([12])\.(\d)\.(\w+)", key)
        if block:
            stage, conv, layer, rest = block.groups()
            return f"head.stages.{stage}.{3 * (int(conv) - 1) + int(layer)}.{rest}"
        return key.replace("encoder.", "backbone.").replace(
            "segmentation_head.0", "head.classifier"
        )

    load_renamed(model, peer.state_dict(), rename)
    image = torch.randn(2, in_channels, 96, 64)
    assert_close(model(image), peer(image))


@torch.inference_mode()
def test_the_head_of_deeplabv3_is_smps(randomise_norms):
    # Its backbone dilates also the convolution that lost its stride, ours as torchvision does.
    torch.manual_seed(0)
    peer = smp.DeepLabV3("resnet18", encoder_weights=None, classes=4)
    randomise_norms(peer).eval()
    backbone = Backbone()
    backbone.channels = (512,)
    head = DeepLabv3Head(backbone, 4, atrous_rates=(12, 24, 36), dropout=0.5, norm="batch").eval()
    names = {"decoder.aspp.": "0.", "decoder.conv.": "1.", "decoder.bn.": "2."}
    names["segmentation_head.0."] = "4."

    def rename(key):
        prefix = next(theirs for theirs in names if key.startswith(theirs))
        return names[prefix] + key.removeprefix(prefix)

    state = {k: v for k, v in peer.state_dict().items() if not k.startswith("encoder.")}
    load_renamed(head, state, rename)
    features = torch.randn(2, 512, 30, 41)
    expected = peer.segmentation_head[0](peer.decoder([features]))
    assert_close(head([features]), expected)


@pytest.mark.parametrize("output_stride", [16, 8])
@torch.inference_mode()
def test_xception65_is_timms(output_stride, tmp_path, randomise_norms):
    torch.manual_seed(0)
    peer = timm.create_model("xception65", output_stride=output_stride, num_classes=2)
    torch.save(randomise_norms(peer).eval().state_dict(), tmp_path / "xception65.pth")
    model = build_model("deeplabv3plus_xception65", output_stride=output_stride).eval()
    loaded = load_weights(model, tmp_path / "xception65.pth")
    assert loaded.unexpected == ["head.fc.weight", "head.fc.bias"]
    assert all(name.startswith("head.") for name in loaded.missing)
    image = torch.randn(1, 3, 65, 49)
    for features, expected in zip(
        model.backbone(image),
        peer.forward_intermediates(image, intermediates_only=True),
        strict=True,
    ):
        assert_close(features, expected)
