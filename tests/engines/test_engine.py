"""Engines in PyTorch: test-time augmentation, sizes, precision and batches."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from atrous.classes import build_classes
from atrous.devices import resolve_device, resolve_precision
from atrous.engines import TTA, TorchEngine
from atrous.engines.windows import compute_window_starts
from atrous.errors import ConfigError
from atrous.models import ModelCard, build_model


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=5).eval()
    classes = build_classes(["a", "b", "c", "d", "e"])
    model.card = ModelCard(
        model.name, model.options, classes, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), None, {}
    )
    return model


def random_image(height, width):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_a_single_pass_gives_the_logits_of_the_network(network):
    image = random_image(70, 91)
    pixels = ((image.float() / 255 - 0.5) / 0.2)[None]
    with torch.inference_mode():
        expected = network(pixels)[0]
    logits = TorchEngine(network).compute_logits(image)
    assert torch.allclose(logits, expected, atol=1e-4)
    assert torch.equal(TorchEngine(network).predict_mask(image), logits.argmax(0).byte())


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (45, 33)])
@pytest.mark.parametrize(
    "tta", [TTA(), TTA((0.5, 1.25), flip=True), TTA(window_px=40, overlap=0.2)]
)
@pytest.mark.parametrize("size_hw", [None, (64, 96)])
def test_logits_have_the_images_own_size(network, size, tta, size_hw, monkeypatch):
    monkeypatch.setattr(network, "card", replace(network.card, size_hw=size_hw))
    logits = TorchEngine(network, tta=tta).compute_logits(random_image(*size))
    assert logits.shape == (5, *size)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_images_are_resized_to_the_size_of_the_card(network, monkeypatch):
    seen = []
    forward = network.forward
    monkeypatch.setattr(network, "card", replace(network.card, size_hw=(64, 96)))
    monkeypatch.setattr(
        network, "forward", lambda image: seen.append(image.shape) or forward(image)
    )
    TorchEngine(network, tta=TTA((1.0, 2.0))).compute_logits(random_image(50, 70))
    assert seen == [(1, 3, 64, 96), (1, 3, 128, 192)]


def test_a_window_as_large_as_the_image_is_the_whole_image(network):
    image = random_image(64, 64)
    whole = TorchEngine(network).compute_logits(image)
    windowed = TorchEngine(network, tta=TTA(window_px=64)).compute_logits(image)
    assert torch.equal(whole, windowed)


@pytest.mark.parametrize("tta", [TTA(window_px=32), TTA(window_px=50, overlap=0)])
def test_windows_and_padding_do_not_change_a_pointwise_model(color_model, tta):
    for size in ((100, 67), (20, 120), (33, 50)):
        image = random_image(*size)
        expected = TorchEngine(color_model).compute_logits(image)
        logits = TorchEngine(color_model, tta=tta).compute_logits(image)
        assert torch.allclose(logits, expected, atol=1e-5)


def test_flips_do_not_change_a_symmetric_model(color_model):
    image = random_image(40, 51)
    one = TorchEngine(color_model).compute_logits(image).log_softmax(0)
    both = TorchEngine(color_model, tta=TTA(flip=True)).compute_logits(image)
    assert torch.allclose(one, both, atol=1e-5)


def test_flipping_makes_the_prediction_symmetric(network):
    image = random_image(64, 64)
    engine = TorchEngine(network, tta=TTA((0.75, 1.0), flip=True))
    mirrored = engine.compute_logits(image.flip(-1)).flip(-1)
    assert torch.allclose(engine.compute_logits(image), mirrored, atol=1e-5)


def test_scales_average_probabilities(network):
    image = random_image(64, 80)
    scales = (0.5, 1.0, 1.5)
    each = [
        TorchEngine(network, tta=TTA((scale,))).compute_logits(image).softmax(0) for scale in scales
    ]
    logits = TorchEngine(network, tta=TTA(scales)).compute_logits(image)
    assert torch.allclose(logits.exp(), sum(each) / 3, atol=1e-6)


def test_samples_are_averaged_in_every_pass(network):
    image = random_image(64, 80)
    pixels = ((image.float() / 255 - 0.5) / 0.2)[None]
    expected, _ = network.sample_probs(pixels, num_samples=3)
    engine = TorchEngine(network, tta=TTA(samples=3))
    assert torch.allclose(engine.compute_logits(image).exp(), expected[0], atol=1e-5)
    assert torch.equal(engine.predict_mask(image), expected[0].argmax(0).byte())
    masks = engine.predict_masks([image, image.flip(-1)])
    assert torch.equal(masks[0], engine.predict_mask(image))
    mirrored = TorchEngine(network, tta=TTA(flip=True, samples=3))
    other, _ = network.sample_probs(pixels.flip(-1), num_samples=3)
    both = (expected[0] + other[0].flip(-1)) / 2
    assert torch.allclose(mirrored.compute_logits(image).exp(), both, atol=1e-5)


def test_samples_need_dropout(network):
    model = build_model("segnet", num_classes=5).eval()
    model.card = network.card
    with pytest.raises(ConfigError, match="segnet has no dropout"):
        TorchEngine(model, tta=TTA(samples=2))


@pytest.mark.parametrize("size_px", [32, 33, 63, 64, 65, 100, 999])
@pytest.mark.parametrize("overlap", [0, 0.5, 0.99])
def test_windows_cover_everything_and_overlap_enough(size_px, overlap):
    starts = compute_window_starts(size_px, 32, overlap)
    assert (starts[0], starts[-1]) == (0, size_px - 32)
    steps = [after - before for before, after in pairwise(starts)]
    assert all(0 < step <= max(1, 32 * (1 - overlap)) + 1 for step in steps)


def test_bf16_logits_are_close_and_float32(network):
    image = random_image(64, 64)
    exact, near = (
        TorchEngine(network, precision=precision).compute_logits(image)
        for precision in ("32", "bf16")
    )
    assert near.dtype == torch.float32
    assert not torch.equal(exact, near)
    assert torch.allclose(exact, near, atol=0.1 * exact.abs().max())


def test_missing_devices_precisions_and_cards_are_errors(network, monkeypatch):
    for name in ("cuda:99", "gpu", "cpu:x", "meta:1:2"):
        with pytest.raises(ConfigError, match=f"no such device as '{name}'"):
            resolve_device(name)
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no precision 'fp8'"):
        resolve_precision("fp8", torch.device("cpu"))
    monkeypatch.setattr(network, "card", None)
    with pytest.raises(ConfigError, match="no card"):
        TorchEngine(network)


@pytest.mark.parametrize(
    "options",
    [
        {"scales": ()},
        {"scales": (0.0,)},
        {"window_px": 31},
        {"overlap": 1.0},
        {"overlap": -0.1},
        {"samples": 0},
    ],
)
def test_invalid_tta_is_an_error(options):
    with pytest.raises(ConfigError):
        TTA(**options)


def test_a_batch_gives_the_masks_of_single_images(network, monkeypatch):
    engine = TorchEngine(network)
    images = [random_image(64, 48) // (1 + number) for number in range(3)]
    batches = []
    forward = network.backbone.forward
    monkeypatch.setattr(
        network.backbone, "forward", lambda pixels: batches.append(len(pixels)) or forward(pixels)
    )
    together = engine.predict_masks(images)
    assert batches == [3]
    for mask, image in zip(together, images, strict=True):
        agreement = (mask == engine.predict_mask(image)).float().mean()
        assert agreement > 0.999  # where two classes are equally likely, rounding may decide
    flipped = TorchEngine(network, tta=TTA(flip=True))
    assert torch.equal(flipped.predict_masks(images)[1], flipped.predict_mask(images[1]))
    assert (engine.compute_batch_size(64, 48), flipped.compute_batch_size(64, 48)) == (128, 1)
    assert engine.compute_batch_size(1000, 1000) == 1


@pytest.mark.parametrize("long_side", [None, 64])
@pytest.mark.parametrize("tta", [TTA(), TTA(flip=True)])
def test_logits_of_several_images_are_those_of_single_ones(network, monkeypatch, long_side, tta):
    monkeypatch.setattr(network, "card", replace(network.card, long_side=long_side))
    engine = TorchEngine(network, tta=tta)
    images = [random_image(*size) for size in [(64, 48), (30, 90), (64, 48), (32, 24), (1, 1)]]
    batches = []
    forward = network.forward
    monkeypatch.setattr(
        network, "forward", lambda pixels: batches.append(len(pixels)) or forward(pixels)
    )
    together = engine.compute_all_logits(images)
    assert max(batches) == (1 if tta.flip else 2 if long_side is None else 3)
    for logits, image in zip(together, images, strict=True):
        torch.testing.assert_close(logits, engine.compute_logits(image), rtol=0, atol=1e-5)


def test_the_input_of_the_network_is_channels_last(network):
    image = random_image(40, 50).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    pixels = TorchEngine(network)._normalize([image])
    assert pixels.stride() == (40 * 50 * 3, 1, 50 * 3, 3)
