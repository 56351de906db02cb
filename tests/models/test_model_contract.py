"""What holds for every variant."""

import pytest
import torch

from atrous.models import build_model, model_names
from atrous.models.aspp import ImagePooling
from atrous.models.zoo import VARIANTS

SMALL = ("resnet18", "mobilenet_v3_large")
SMALL_VARIANTS = [name for name in model_names() if name.endswith(SMALL)]
EVERY_PART = [*SMALL_VARIANTS, "deeplabv3_report"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.endswith(("34", "101")) else ())
        for name in model_names()
    ],
)
def test_logits_have_the_pictures_size_alone_or_in_a_batch(name, randomise_norms):
    model = randomise_norms(build_model(name, num_classes=5)).eval()
    image = torch.randn(2, 3, 33, 65)
    with torch.inference_mode():
        logits = model(image)
        assert logits.shape == (2, 5, 33, 65)
        assert logits.isfinite().all()
        assert model(image[:1, :, :32, :32]).shape == (1, 5, 32, 32)
        scale = logits.abs().max().item()
        torch.testing.assert_close(model(image[1:]), logits[1:], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", SMALL_VARIANTS)
def test_bfloat16_is_close_and_memory_format_does_not_matter(name, randomise_norms):
    torch.manual_seed(0)
    model = randomise_norms(build_model(name, num_classes=5)).eval()
    image = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        logits = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(image)
        model.to(memory_format=torch.channels_last)
        same = model(image.to(memory_format=torch.channels_last))
    assert rough.dtype == torch.float32
    assert (rough - logits).abs().mean() < 0.05 * logits.std()
    assert (same - logits).abs().max() < 1e-5 * logits.abs().max()


@pytest.mark.parametrize(
    ("name", "norm"),
    [*((name, "batch") for name in EVERY_PART), *((name, "group") for name in SMALL_VARIANTS[:2])],
)
def test_every_parameter_gets_a_finite_gradient(name, norm, randomise_norms):
    model = randomise_norms(build_model(name, num_classes=5, norm=norm, auxiliary=True))
    logits, auxiliary_logits = model.compute_training_logits(torch.randn(2, 3, 48, 48))
    assert logits.shape == auxiliary_logits.shape == (2, 5, 48, 48)
    (logits.square().mean() + auxiliary_logits.square().mean()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", *SMALL_VARIANTS[:2]])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_backbone_keeps_its_promise(name, output_stride):
    backbone = build_model(name, output_stride=output_stride).backbone.eval()
    assert backbone.strides[-1] == output_stride
    with torch.inference_mode():
        features = backbone(torch.zeros(1, 3, 65, 97))
    assert tuple(feature.shape[1] for feature in features) == backbone.channels
    for feature, stride in zip(features, backbone.strides, strict=True):
        assert feature.shape[-2:] == (-(-65 // stride), -(-97 // stride))


@pytest.mark.parametrize("name", SMALL_VARIANTS)
def test_a_batch_of_one_smallest_picture_trains(name):
    model = build_model(name, num_classes=5, output_stride=32)
    model(torch.randn(1, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_one_picture_leaves_the_statistics_of_image_pooling():
    pooling = ImagePooling(8, 4, "batch")
    norm = pooling[2]
    pooling(torch.randn(2, 8, 5, 5))
    before = norm.running_mean.clone()
    image = torch.randn(1, 8, 5, 5)
    pooled = pooling(image)
    assert torch.equal(norm.running_mean, before)
    assert torch.equal(pooled, pooling.eval()(image))


def test_group_norm_takes_the_place_of_every_batch_norm():
    for name in VARIANTS:
        with torch.device("meta"):
            model = build_model(name, norm="group", auxiliary=True)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()), name
