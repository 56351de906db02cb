"""Sliding windows: blending without seams, and memory for large images."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from atrous.engines import TTA, TorchEngine
from atrous.engines.tta import DEFAULT_WINDOW_PX, MAX_WHOLE_PX, iterate_tta_blocks
from atrous.engines.windows import (
    assemble_blocks,
    blend_windows,
    compute_window_starts,
    compute_window_weights,
)


def random_image(height, width):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def build_forward(*dilations):
    """A random network with a receptive field of `sum(dilations)` pixels to each side."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=rate, dilation=rate) for rate in dilations]
    network = nn.Sequential(*layers)
    return lambda image: network(image[None] / 255)[0].detach()


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("size_px", [64, 65, 100, 333])
def test_weights_sum_to_one_and_are_zero_at_the_border(size_px, overlap):
    starts = compute_window_starts(size_px, 64, overlap)
    weights = compute_window_weights(starts, size_px, 64, overlap)
    total = torch.zeros(size_px)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + 64] += weight
    assert torch.allclose(total, torch.ones(size_px))
    if 0.25 <= overlap < 1 and len(starts) > 1:
        rim_px = int(64 * overlap) // 4 - 1
        assert (weights[0][64 - rim_px :] == 0).all()
        assert (weights[-1][:rim_px] == 0).all()
        assert weights[0][0] == weights[-1][-1] == 1, "the border of the image must count"


@pytest.mark.parametrize("size", [(64, 64), (200, 147), (64, 301), (90, 64)])
@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.7])
def test_blocks_cover_each_pixel_once(size, overlap):
    seen = torch.zeros(size)
    blocks = blend_windows(lambda image: image[:1].float(), random_image(*size), (64, 64), overlap)
    for rows, columns, logits in blocks:
        assert logits.shape == seen[None, rows, columns].shape
        seen[rows, columns] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("tta", [TTA(window_px=64, overlap=0.5), TTA(window_px=96)])
def test_windows_equal_the_whole_image_for_a_small_receptive_field(tta):
    """The outermost quarter of the overlap has weight 0, so 6 pixels of context are available.

    At the border of the image, the windows are padded like the image.
    """
    forward, image = build_forward(1, 2, 3), random_image(230, 313)
    blocks = iterate_tta_blocks(forward, image, tta, None, torch.zeros(3, dtype=torch.uint8))
    tiled = assemble_blocks(blocks, (230, 313))
    assert torch.allclose(tiled, forward(image), atol=1e-5)


def test_there_are_no_seams_with_global_pooling():
    """The pooled value differs from window to window, but blending hides the jumps."""
    image = torch.linspace(0, 255, 400).round().byte().expand(3, 150, 400)

    def compute_largest_jump(overlap):
        blocks = blend_windows(
            lambda window: window.float().mean((1, 2), keepdim=True).expand(window.shape),
            image, (128, 128), overlap,
        )  # fmt: skip
        return assemble_blocks(blocks, (150, 400)).diff(dim=-1).abs().max()

    assert compute_largest_jump(0) > 20
    assert compute_largest_jump(0.5) < 2


def test_large_images_use_windows_by_default():
    assert TTA().compute_window_hw(2048, 2048) == (2048, 2048)
    assert MAX_WHOLE_PX == 2048 * 2048
    assert TTA().compute_window_hw(2049, 2048) == (DEFAULT_WINDOW_PX, DEFAULT_WINDOW_PX)
    assert TTA().compute_window_hw(600, 9000) == (600, DEFAULT_WINDOW_PX)
    assert TTA(window_px=0).compute_window_hw(9000, 9000) == (9000, 9000)
    assert TTA(window_px=300).compute_window_hw(200, 400) == (200, 300)


def test_strips_of_a_model_of_fixed_size_equal_the_whole(monkeypatch):
    forward, image = build_forward(1, 2), random_image(211, 97)
    fill = torch.zeros(3, dtype=torch.uint8)
    for tta in (TTA(), TTA((0.5, 1.5), flip=True)):
        at_once = assemble_blocks(
            iterate_tta_blocks(forward, image, tta, (64, 48), fill), (211, 97)
        )
        with monkeypatch.context() as patch:
            patch.setattr("atrous.engines.tta._STRIP_VALUES", 3 * 97 * 10)
            blocks = list(iterate_tta_blocks(forward, image, tta, (64, 48), fill))
        assert len(blocks) == 22
        assert torch.allclose(assemble_blocks(blocks, (211, 97)), at_once, atol=1e-5)


def test_blocks_masks_and_logits_agree(color_model):
    image = random_image(130, 170)
    engine = TorchEngine(color_model, tta=TTA(window_px=64))
    logits = engine.compute_logits(image)
    assert torch.equal(engine.predict_mask(image), logits.argmax(0).byte())


MEMORY_PROBE = """
import re, torch
from torch import nn
from atrous.classes import build_classes
from atrous.engines import TorchEngine
from atrous.prediction import compute_prediction
from atrous.models import ModelCard, Segmenter

def read_peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

head = nn.Conv2d(3, 3, 1)
model = Segmenter(nn.Identity(), head, None, name="cheap", options={"num_classes": 3})
model.card = ModelCard("cheap", {}, build_classes("abc"), (0.,) * 3, (1.,) * 3, None, {})
image = torch.randint(0, 256, (3, 1, 1), dtype=torch.uint8).expand(3, 10_000, 10_000)
engine = TorchEngine(model.eval())
engine.predict_mask(image[:, :1024, :1024])
before_mb = read_peak_mb()
mask = compute_prediction(engine, image, min_confidence=0.01).mask
assert mask.shape == (10_000, 10_000)
print(read_peak_mb() - before_mb)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_image_of_10000_by_10000_needs_little_memory_beside_its_mask():
    """Its logits for 3 classes would be 1.2 GB; the mask is 0.1 GB."""
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE], capture_output=True, text=True, check=True
    )
    assert float(ended.stdout) < 500
