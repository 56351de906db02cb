import argparse
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models import WeightsEnum, segmentation

from atrous.classes import build_classes
from atrous.errors import ConfigError, WeightsError
from atrous.models import ModelCard, build_model, load_model, load_weights, save_weights
from atrous.models.fitting import fit_tensors, group_names
from atrous.models.weights import init_model_options, init_weights

LAST_LAYER = ["head.4.weight", "head.4.bias"]


def make_card(model, **changes):
    values = {
        "name": model.name,
        "options": model.options,
        "classes": build_classes(["sky", "road", "Bäume"], [(0, 0, 255), (9, 9, 9), (0, 255, 0)]),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "size_hw": (48, 64),
        "training": {"step": 12, "miou": 0.5},
    }
    return ModelCard(**values | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small saved model and its file."""
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=3, auxiliary=True).eval()
    file = tmp_path_factory.mktemp("run") / "last.safetensors"
    save_weights(file, model, make_card(model))
    return model, file


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deeplabv3_resnet18", {"norm": "group", "multi_grid": (1, 2, 4), "dropout": 0.1}),
        ("deeplabv3plus_mobilenet_v3_large", {"output_stride": 8, "decoder_channels": 32}),
        ("deeplabv3_report", {"output_stride": 32}),
        ("deeplabv3_resnet18", {"cascade_blocks": 5, "output_stride": 64, "in_channels": 4}),
        ("pspnet_resnet18", {"auxiliary": True}),
        ("bayesian_segnet", {"dropout": 0.2}),
        ("unet_resnet34", {"in_channels": 1}),
    ],
)
def test_a_saved_model_comes_back_the_same(name, options, tmp_path, randomise_norms):
    model = randomise_norms(build_model(name, num_classes=3, **options)).eval()
    model.to(memory_format=torch.channels_last)
    card = make_card(model, size_hw=None)
    save_weights(tmp_path / "best.safetensors", model, card)
    before = torch.get_rng_state()
    again = load_model(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    assert again.card == card
    assert again.options == model.options
    assert not again.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


def test_load_model_takes_a_file_or_a_run(trained):
    model, file = trained
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for place in (file, str(file.parent)):
            assert torch.equal(load_model(place)(image), model(image))


def test_load_model_says_what_is_missing(tmp_path):
    with pytest.raises(WeightsError, match=r"best\.safetensors nor last\.safetensors"):
        load_model(tmp_path)
    with pytest.raises(WeightsError, match="nowhere"):
        load_model(tmp_path / "nowhere")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="not written by atrous"):
        load_model(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_is_named(trained, tmp_path, damage, suffix):
    model, file = trained
    if suffix == ".pth":
        torch.save(model.state_dict(), tmp_path / "good.pth")
        file = tmp_path / "good.pth"
    content = file.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "header": b"\xff" * 64 + content[64:],
        "empty": b"",
        "text": b"<html>not found</html>",
    }[damage]
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match=f"damaged{suffix}"):
        load_weights(model, path)


def test_weights_of_another_model_are_refused_and_change_nothing(trained):
    _, file = trained
    model = build_model("deeplabv3_resnet18", num_classes=3)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=r"does not fit deeplabv3_resnet18.*backbone\.conv1"):
        load_weights(model, file)
    plus = build_model("deeplabv3plus_mobilenet_v3_large", num_classes=3)
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(plus, file)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_another_number_of_classes_is_refused_but_starts_a_model(trained):
    source, file = trained
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=5)
    with pytest.raises(WeightsError, match=r"has 3 classes.*has 5"):
        load_weights(model, file)
    loaded = init_weights(model, str(file))
    assert loaded.missing == LAST_LAYER
    assert loaded.num_file_classes == 3
    assert set(LAST_LAYER) < set(loaded.unexpected)
    assert torch.equal(model.head[1].weight, source.head[1].weight)


def test_all_but_the_classifier_must_fit(trained):
    # 8 classes and 8 channels: what differs beside the classifier is not taken for it.
    wide = build_model("deeplabv3plus_mobilenet_v3_large", num_classes=5, decoder_channels=16)
    narrow = build_model("deeplabv3plus_mobilenet_v3_large", num_classes=8, decoder_channels=8)
    message = (
        r"11 tensors have another shape: head\.decoder \(10 tensors\), head\.classifier\.weight "
    )
    with pytest.raises(WeightsError, match=message):
        fit_tensors(narrow, wide.state_dict(), "wide.pth", new_classifier=True)
    with pytest.raises(WeightsError, match=r"are not in the file: head \(\d+ tensors\)"):
        init_weights(narrow, str(trained[1]))


def test_a_new_classifier_is_new_as_a_whole():
    file, model = (build_model("deeplabv3_report", num_classes=count) for count in (7, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaded = fit_tensors(model, file.state_dict(), "file", new_classifier=True)
    assert loaded.num_file_classes == 7
    assert group_names(loaded.missing, apart_from=loaded.loaded) == [
        "head.classifier (weight, bias)", "head.classifier_norm (5 tensors)"
    ]  # fmt: skip
    for name, value in model.state_dict().items():
        source = before if name in loaded.missing else file.state_dict()
        assert torch.equal(value, source[name]), name


def test_torchvision_coco_file_starts_a_model_of_other_classes(tmp_path):
    peer = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    torch.save(peer.state_dict(), tmp_path / "deeplabv3_resnet50_coco.pth")
    model = build_model("deeplabv3_resnet50", num_classes=11)
    loaded = init_weights(model, str(tmp_path / "deeplabv3_resnet50_coco.pth"))
    assert loaded.num_file_classes == 21
    assert loaded.missing == LAST_LAYER
    assert group_names(loaded.loaded, loaded.missing)[0] == "backbone (318 tensors)"
    assert group_names(loaded.unexpected) == [
        "aux_classifier (8 tensors)",
        "classifier.4 (weight, bias)",
    ]
    assert torch.equal(model.head[0].convs[1][0].weight, peer.classifier[0].convs[1][0].weight)


def test_names_are_grouped_by_the_largest_modules_that_hold_them_alone():
    names = ["a.0.weight", "a.1.weight", "a.1.bias", "b.x.c.weight", "b.x.c.bias", "d.weight"]
    assert group_names(names, ["a.2.weight"]) == [
        "a.0.weight", "a.1 (weight, bias)", "b.x.c (weight, bias)", "d.weight"
    ]  # fmt: skip
    assert group_names(names)[0] == "a (3 tensors)"
    assert group_names([]) == []


def test_an_auxiliary_head_may_be_on_one_side_only(trained, tmp_path):
    _, file = trained
    loaded = load_weights(build_model("deeplabv3_mobilenet_v3_large", num_classes=3), file)
    assert loaded.unexpected
    assert all(name.startswith("auxiliary_head.") for name in loaded.unexpected)
    peer = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
    checkpoint = {"model": peer.state_dict(), "args": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    model = build_model("deeplabv3_mobilenet_v3_large", auxiliary=True)
    loaded = load_weights(model, tmp_path / "checkpoint.pth")
    assert loaded.missing
    assert all(name.startswith("auxiliary_head.") for name in loaded.missing)


def test_a_file_without_a_state_dict_is_refused(trained, tmp_path):
    torch.save({"epoch": 3}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth is not a state dict"):
        load_weights(trained[0], tmp_path / "odd.pth")


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_large"])
def test_imagenet_weights_go_into_the_backbone(backbone, monkeypatch):
    peer = torchvision.models.get_model(backbone)
    # The oldest published files do not count batches.
    published = {k: v for k, v in peer.state_dict().items() if "num_batches" not in k}
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: published)
    model = build_model(f"deeplabv3plus_{backbone}", num_classes=3, output_stride=32).eval()
    loaded = init_weights(model, "imagenet")
    assert all(name.startswith(("fc.", "classifier.")) for name in loaded.unexpected)
    assert all(name.startswith("head.") for name in loaded.missing)
    assert all(name.startswith("backbone.") for name in loaded.loaded)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = model.backbone(image)[-1].mean((2, 3))
        classify = peer.fc if backbone == "resnet18" else peer.classifier.eval()
        torch.testing.assert_close(classify(features), peer.eval()(image))


def test_imagenet_weights_go_into_the_encoder_of_segnet(monkeypatch):
    peer = torchvision.models.vgg16_bn(num_classes=10).eval()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: peer.state_dict())
    model = build_model("segnet", num_classes=3).eval()
    loaded = init_weights(model, "imagenet")
    assert all(name.startswith("classifier.") for name in loaded.unexpected)
    assert all(name.startswith("head.") for name in loaded.missing)
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        features = torch.max_pool2d(model.backbone(image)[-1], 2)
        torch.testing.assert_close(features, peer.features(image))


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 7])
def test_the_first_convolution_is_adapted_to_the_number_of_bands(in_channels, tmp_path):
    peer = torchvision.models.resnet18().eval()
    torch.save(peer.state_dict(), tmp_path / "peer.pth")
    model = build_model("fcn_resnet18", in_channels=in_channels).eval()
    loaded = init_weights(model, str(tmp_path / "peer.pth"))
    assert "backbone.conv1.weight" in loaded.loaded
    assert loaded.num_file_bands == (None if in_channels == 3 else 3)
    weight, published = model.backbone.conv1.weight, peer.conv1.weight
    if in_channels < 3:  # a grey image gives what it gave in red, green and blue
        grey = torch.randn(1, 1, 32, 48)
        with torch.inference_mode():
            expected = peer.conv1(grey.expand(-1, 3, -1, -1))
            response = model.backbone.conv1(grey.expand(-1, in_channels, -1, -1))
        torch.testing.assert_close(response, expected, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(weight[:, :3], published)
        mean = published.mean(1, keepdim=True).expand(-1, in_channels - 3, -1, -1)
        assert torch.equal(weight[:, 3:], mean)
    if in_channels != 3:
        with pytest.raises(WeightsError, match=r"another shape.*backbone\.conv1\.weight"):
            load_weights(model, tmp_path / "peer.pth")


@pytest.mark.parametrize(("num_classes", "missing"), [(21, []), (5, LAST_LAYER)])
def test_coco_weights_start_a_model_of_any_number_of_classes(num_classes, missing, monkeypatch):
    name = "deeplabv3_mobilenet_v3_large"
    peer = segmentation.deeplabv3_mobilenet_v3_large(weights_backbone=None, aux_loss=True)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: peer.state_dict())
    options = init_model_options(name, "coco")
    assert options == {"atrous_rates": [12, 24, 36]}
    model = build_model(name, num_classes=num_classes, **options).eval()
    assert init_weights(model, "coco").missing == missing
    if not missing:
        image = torch.randn(1, 3, 64, 64)
        with torch.inference_mode():
            torch.testing.assert_close(model(image), peer.eval()(image)["out"])


def test_without_published_weights_or_network_the_error_says_what_to_do(monkeypatch):
    model = build_model("deeplabv3_resnet18")
    assert init_weights(model, "none") is None
    with pytest.raises(ConfigError, match=r"deeplabv3_resnet50.*fcn_resnet50"):
        init_weights(model, "coco")
    for name in ("unet", "deeplabv3plus_xception65"):
        with pytest.raises(ConfigError, match=f"no published ImageNet weights for {name}"):
            init_weights(build_model(name), "imagenet")
    assert init_model_options("fcn_mobilenet_v3_large", "coco") == {}

    def fail(self, **_):
        raise URLError("no route")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)
    with pytest.raises(WeightsError, match=r"https://.*resnet18.*--init PATH") as caught:
        init_weights(model, "imagenet")
    assert str(Path(torch.hub.get_dir()) / "checkpoints") in str(caught.value)
    with pytest.raises(WeightsError, match="imagnet"):
        init_weights(model, "imagnet")
