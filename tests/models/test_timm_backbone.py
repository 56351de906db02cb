"""Any backbone of timm, without a network: weights come from a state dict that the test saves."""

import sys

import pytest
import torch

from atrous.classes import build_classes
from atrous.errors import ConfigError, WeightsError
from atrous.models import build_model, load_model, save_weights
from atrous.models.card import ModelCard
from atrous.models.weights import init_weights

timm = pytest.importorskip("timm")

CLASSES = build_classes(["a", "b", "c"])
NAMES = ["convnext_atto", "mobilenetv4_conv_small", "resnet18d", "resnet50d"]


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_of_timm_loads_strictly_and_gives_its_features(name, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    model = build_model(f"fcn_timm/{name}", num_classes=3, output_stride=32).eval()
    loaded = init_weights(model, str(tmp_path / "timm.pth"))
    assert not [key for key in loaded.missing if key.startswith("backbone.")]
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs.eval().forward_features(image)
        if name.startswith("mobilenetv4"):  # its features end before the last 1x1 convolution
            expected = theirs.forward_intermediates(image, intermediates_only=True)[-1]
        assert torch.equal(model.backbone(image)[-1], expected)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv4_conv_small", "resnet18d"])
def test_maps_have_their_stride_also_for_odd_sizes(name, output_stride):
    model = build_model(f"deeplabv3plus_timm/{name}", num_classes=3, output_stride=output_stride)
    backbone = model.eval().backbone
    assert backbone.strides[-1] == output_stride
    with torch.inference_mode():
        features = backbone(torch.rand(1, 3, 65, 97))
        for one, stride, width in zip(features, backbone.strides, backbone.channels, strict=True):
            assert one.shape[1:] == (width, -(-65 // stride), -(-97 // stride))
        assert model(torch.rand(1, 3, 65, 97)).shape == (1, 3, 65, 97)


@pytest.mark.parametrize("system", ["deeplabv3", "pspnet", "fcn", "unet"])
def test_every_system_runs_on_it_and_its_file_loads(system, tmp_path):
    model = build_model(f"{system}_timm/convnext_atto", num_classes=3).eval()
    card = ModelCard(
        model.name, model.options, CLASSES, model.backbone.mean, model.backbone.std, None, {}
    )
    save_weights(tmp_path / "w.safetensors", model, card)
    image = torch.rand(1, 3, 70, 33)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "w.safetensors")(image), model(image))


def test_normalization_is_that_of_the_weights():
    backbone = build_model("fcn_timm/mobilenetv4_conv_small.e2400_r224_in1k").backbone
    config = timm.get_pretrained_cfg("mobilenetv4_conv_small.e2400_r224_in1k")
    assert (backbone.mean, backbone.std) == (config.mean, config.std)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fcn_timm/convnext_atoo", {}, "no model 'convnext_atoo'.*'convnext_atto'"),
        ("fcn_timm/convnext_tiny.in1k", {}, r"no model 'convnext_tiny.in1k'.*convnext_tiny\."),
        (
            "fcn_timm/swin_tiny_patch4_window7_224",
            {},
            "no feature maps at output stride 16.*resnet",
        ),
        ("fcn_timm/vit_tiny_patch16_224", {"output_stride": 32}, "no feature maps.* 32"),
        ("segnet_timm/resnet18d", {}, "'segnet' does not take a backbone of timm.*deeplabv3"),
        ("fcn_timm/resnet18d", {"norm": "group"}, "normalization layers of its own"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_model(name, **options)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'atrous\[timm\]'"):
        build_model("fcn_timm/resnet18d")


def test_weights_of_another_backbone_are_refused(tmp_path):
    torch.save(timm.create_model("resnet18d").state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        init_weights(build_model("fcn_timm/convnext_atto"), str(tmp_path / "other.pth"))
