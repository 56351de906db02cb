"""What holds for every variant."""

import pytest
import torch
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.models import build_model, model_names
from atrous.models.aspp import ImagePooling
from atrous.models.zoo import VARIANTS

# The smallest variant of each system, with the options that change what it is made of.
SYSTEMS = {
    "deeplabv3": ("deeplabv3_resnet18", {}),
    "cascade": ("deeplabv3_resnet18", {"cascade_blocks": 6, "multi_grid": (1, 2, 1)}),
    "deeplabv3plus": ("deeplabv3plus_resnet18", {}),
    "separable": ("deeplabv3plus_mobilenet_v3_large", {"separable": True}),
    "efficientnet": ("deeplabv3plus_efficientnet_lite0", {"separable": True}),
    "unet_efficientnet": ("unet_efficientnet_lite0", {}),
    "xception": ("deeplabv3plus_xception65", {"separable": True}),
    "report": ("deeplabv3_report", {}),
    "pspnet": ("pspnet_resnet18", {}),
    "fcn": ("fcn_resnet18", {}),
    "unet": ("unet", {}),
    "unet_resnet34": ("unet_resnet34", {}),
    "segnet": ("segnet", {}),
    "bayesian_segnet": ("bayesian_segnet", {}),
}
every_system = pytest.mark.parametrize("system", SYSTEMS)


def build_system(system, **options):
    name, chosen = SYSTEMS[system]
    torch.manual_seed(0)
    offered = {key: value for key, value in options.items() if key in VARIANTS[name].options}
    return build_model(name, num_classes=5, **chosen, **offered)


def test_every_variant_gives_logits_of_the_image_size():
    for name in model_names():
        with torch.device("meta"):
            model = build_model(name, num_classes=1, in_channels=2).eval()
            for size_hw in ((32, 32), (33, 65)):
                assert model(torch.empty(2, 2, *size_hw)).shape == (2, 1, *size_hw), name


@every_system
def test_logits_are_the_same_alone_and_in_a_batch(system, randomise_norms):
    model = randomise_norms(build_system(system)).eval()
    image = torch.randn(2, 3, 33, 65)
    with torch.inference_mode():
        logits = model(image)
        assert logits.shape == (2, 5, 33, 65)
        assert logits.isfinite().all()
        assert torch.equal(model(image), logits)
        tolerance = 1e-5 * logits.abs().max().item()
        torch.testing.assert_close(model(image[1:]), logits[1:], rtol=0, atol=tolerance)


@every_system
def test_bfloat16_is_close_and_memory_format_does_not_matter(system, randomise_norms):
    model = randomise_norms(build_system(system)).eval()
    image = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        logits = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(image)
        model.to(memory_format=torch.channels_last)
        same = model(image.to(memory_format=torch.channels_last))
    assert rough.dtype == torch.float32
    # Of SegNet's maxima, rounding moves one in a hundred to a neighbour.
    tolerance = 0.1 if "segnet" in system else 0.05
    assert (rough - logits).abs().mean() < tolerance * logits.std()
    assert (same - logits).abs().max() < 1e-5 * logits.abs().max()


@pytest.mark.parametrize(
    ("system", "norm"),
    [*((system, "batch") for system in SYSTEMS), ("deeplabv3", "group"), ("segnet", "group")],
)
def test_every_parameter_gets_a_finite_gradient_that_lowers_the_loss(system, norm, randomise_norms):
    model = randomise_norms(build_system(system, norm=norm, auxiliary=True, in_channels=2))
    image, mask = torch.randn(2, 2, 48, 48), torch.randint(5, (2, 48, 48))

    def compute_loss():
        torch.manual_seed(1)  # the same dropout before and after the step
        logits, auxiliary_logits = model.compute_training_logits(image)
        assert logits.shape == (2, 5, 48, 48)
        loss = F.cross_entropy(logits, mask)
        if auxiliary_logits is not None:
            assert auxiliary_logits.shape == logits.shape
            loss = loss + F.cross_entropy(auxiliary_logits, mask)
        return loss

    loss = compute_loss()
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    grads = [parameter.grad for parameter in model.parameters()]
    square = sum(grad.square().sum() for grad in grads).item()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * loss.item() / square * parameter.grad  # a slope of 1 % down
        assert compute_loss() < loss


@every_system
def test_a_batch_of_one_smallest_image_trains(system):
    model = build_system(system, output_stride=32)
    model(torch.randn(1, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("system", [s for s in SYSTEMS if s != "bayesian_segnet"])
def test_export_takes_batches_and_sizes_that_it_has_not_seen(system, randomise_norms):
    model = randomise_norms(build_system(system)).eval()
    sizes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(sizes,))
    image = torch.randn(3, 3, 49, 33)
    with torch.inference_mode():
        logits = model(image)
        torch.testing.assert_close(
            exported.module()(image), logits, rtol=0, atol=1e-5 * logits.abs().max().item()
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "backend"),
    [
        *((system, "eager") for system in ("deeplabv3", "separable", "pspnet", "unet", "segnet")),
        *((system, "aot_eager") for system in ("cascade", "unet_resnet34")),
        ("fcn", "inductor"),
    ],
)
def test_compiles_as_one_graph(system, backend, randomise_norms):
    model = randomise_norms(build_system(system)).eval()
    image = torch.randn(1, 3, 33, 47)
    with torch.inference_mode():
        logits = model(image)
        compiled = torch.compile(model, backend=backend, fullgraph=True)(image)
        tolerance = 1e-4 * logits.abs().max().item()
        torch.testing.assert_close(compiled, logits, rtol=0, atol=tolerance)
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("system", ["deeplabv3", "unet"])  # one dilated, one with a decoder
def test_overfits_four_images(system):
    model = build_system(system, output_stride=8, auxiliary=True, dropout=0.1)
    image, mask = draw_four_images()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for step in range(120):
        model.train()
        logits, auxiliary_logits = model.compute_training_logits(image)
        loss = F.cross_entropy(logits, mask)
        if auxiliary_logits is not None:
            loss = loss + 0.4 * F.cross_entropy(auxiliary_logits, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9 and compute_miou(model, image, mask) > 0.95:
            return
    pytest.fail(f"mIoU {compute_miou(model, image, mask):.3f} after 120 steps")


def draw_four_images():
    """Blocks of five textures on a grid of 16 px."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(5, (4, 2, 3), generator=generator)
    mask = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    colors = torch.randn(5, 3, generator=generator)
    noise = 0.2 * torch.randn(4, 3, 32, 48, generator=generator)
    return colors[mask].permute(0, 3, 1, 2) + noise, mask


@torch.inference_mode()
def compute_miou(model, image, mask):
    predicted = model.eval()(image).argmax(1)
    ious = [
        ((predicted == k) & (mask == k)).sum() / ((predicted == k) | (mask == k)).sum()
        for k in mask.unique()
    ]
    return torch.stack(ious).mean().item()


@pytest.mark.parametrize(
    "name", ["deeplabv3_resnet50", "fcn_resnet18", "pspnet_mobilenet_v3_large"]
)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_backbone_keeps_its_promise(name, output_stride):
    check_feature_maps(name, last_stride=output_stride, output_stride=output_stride)


@pytest.mark.parametrize(
    ("name", "last_stride"),
    [("unet", 16), ("unet_resnet34", 32), ("segnet", 16), ("deeplabv3plus_xception65", 16)],
)
def test_backbone_of_its_own_keeps_its_promise(name, last_stride):
    check_feature_maps(name, last_stride=last_stride)


def check_feature_maps(name, *, last_stride, **options):
    with torch.device("meta"):
        backbone = build_model(name, **options).backbone.eval()
        features = backbone(torch.empty(1, 3, 65, 97))
    assert backbone.strides[-1] == last_stride
    assert tuple(feature.shape[1] for feature in features) == backbone.channels
    for feature, stride in zip(features, backbone.strides, strict=True):
        assert feature.shape[-2:] == (-(-65 // stride), -(-97 // stride))


def test_one_image_leaves_the_statistics_of_image_pooling():
    pooling = ImagePooling(8, 4, "batch")
    norm = pooling[2]
    pooling(torch.randn(2, 8, 5, 5))
    before = norm.running_mean.clone()
    image = torch.randn(1, 8, 5, 5)
    pooled = pooling(image)
    assert torch.equal(norm.running_mean, before)
    assert torch.equal(pooled, pooling.eval()(image))


def test_group_norm_takes_the_place_of_every_batch_norm():
    for name, variant in VARIANTS.items():
        options = {"auxiliary": True} if "auxiliary" in variant.options else {}
        with torch.device("meta"):
            model = build_model(name, norm="group", **options)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()), name


def test_sampling_says_where_the_model_is_unsure():
    model = build_system("bayesian_segnet").train()
    image = torch.randn(2, 3, 33, 40)
    state, norms = torch.get_rng_state(), model.state_dict()["backbone.1.running_mean"].clone()
    probs, uncertainty = model.sample_probs(image, num_samples=3)
    assert probs.shape == (2, 5, 33, 40)
    assert uncertainty.shape == (2, 33, 40)
    torch.testing.assert_close(probs.sum(1), torch.ones(2, 33, 40))
    assert uncertainty.min() >= 0
    assert 0 < uncertainty.max() < 0.25
    again = model.sample_probs(image, num_samples=3)
    assert torch.equal(again[0], probs)
    assert torch.equal(again[1], uncertainty)
    assert not torch.equal(model.sample_probs(image, num_samples=3, seed=1)[0], probs)
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.state_dict()["backbone.1.running_mean"], norms)


def test_sampling_is_the_mean_and_variance_of_its_samples():
    model = build_model("fcn_resnet18", num_classes=2).eval()
    image = torch.randn(1, 3, 32, 32)
    probs, uncertainty = model.sample_probs(image, num_samples=4, seed=3)
    model.head[3].train()
    with torch.inference_mode():
        torch.manual_seed(3)
        samples = torch.stack([model(image).softmax(1) for _ in range(4)])
    torch.testing.assert_close(probs, samples.mean(0))
    torch.testing.assert_close(uncertainty, samples.var(0, unbiased=False).mean(1))


def test_sampling_without_dropout_is_refused():
    with pytest.raises(ConfigError, match=r"segnet has no dropout.*bayesian_segnet"):
        build_system("segnet").sample_probs(torch.randn(1, 3, 32, 32))
    with pytest.raises(ConfigError, match=r"at least 2.*got 1"):
        build_system("bayesian_segnet").sample_probs(torch.randn(1, 3, 32, 32), num_samples=1)
