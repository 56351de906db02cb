"""Memory: by hand where that can be done, and against the same step on real tensors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.inspect.fits import find_largest_batch, parse_memory
from atrous.inspect.memory import (
    LOSS,
    AllocationMode,
    compute_kept_bytes,
    compute_training_peak,
    compute_use_peak,
)
from atrous.models import Segmenter, build_model
from atrous.models.flops import build_shadow

FLOAT = 4


def build_stub():
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(inplace=True))
    head = nn.Conv2d(8, 5, 1)
    return Segmenter(backbone, head, None, name="stub", options={"num_classes": 5})


def test_what_is_kept_by_hand():
    kept = compute_kept_bytes(build_shadow(build_stub()), (40, 50), batch_size=2)
    pixels = 2 * 40 * 50
    assert kept["backbone.0"] == 3 * pixels * FLOAT
    # In place, so the result of the convolution is kept by the activation and not a second time.
    assert kept["backbone.1"] == 8 * pixels * FLOAT
    # The head keeps only what is kept already.
    assert kept.get("head", 0) == 0
    # Cross entropy: log-probabilities, the mask in int64, and one number.
    assert kept[LOSS] == 5 * pixels * FLOAT + 8 * pixels + FLOAT


def test_use_by_hand():
    pixels = 40 * 50
    # The picture, the features and the logits; resizing to the same size makes no copy less.
    peak = compute_use_peak(build_shadow(build_stub()), (40, 50))
    assert (3 + 8 + 5) * pixels * FLOAT <= peak <= (3 + 8 + 5 + 5) * pixels * FLOAT


def train_for_real(model, batch_size, side, precision):
    """Count what two training steps on real tensors ask for."""
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)

    def step():
        image = torch.randn(batch_size, 3, side, side)
        mask = torch.randint(8, (batch_size, side, side))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits, auxiliary_logits = model.compute_training_logits(image)
        loss = F.cross_entropy(logits, mask) + 0.4 * F.cross_entropy(auxiliary_logits, mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with AllocationMode() as allocations:
        allocations.add([*model.parameters(), *model.buffers()])
        step()
        step()
    return allocations.peak_bytes


def test_the_meta_device_asks_for_what_real_training_asks_for():
    torch.manual_seed(0)
    model = build_model("deeplabv3_resnet18", num_classes=8, auxiliary=True)
    real, found = {}, {}
    for precision in ("32", "bf16"):
        real[precision] = train_for_real(model, 12, 96, precision)
        found[precision] = compute_training_peak(
            model, (96, 96), batch_size=12, precision=precision, optimizer="sgd"
        )
        assert found[precision] == pytest.approx(real[precision], rel=0.05)
    assert real["bf16"] < 0.95 * real["32"]
    assert found["bf16"] / found["32"] == pytest.approx(real["bf16"] / real["32"], rel=0.01)


def test_the_optimizers_state_counts():
    model = build_model("deeplabv3_resnet18", num_classes=3)
    weights = FLOAT * sum(parameter.numel() for parameter in model.parameters())
    adamw, sgd = (
        compute_training_peak(model, (160, 160), batch_size=4, optimizer=optimizer)
        for optimizer in ("adamw", "sgd")
    )
    assert adamw - sgd == pytest.approx(weights, rel=0.02)
    assert sgd > 3 * weights


@given(st.integers(0, 10**7), st.integers(1, 10**5), st.integers(0, 10**9))
def test_the_batch_that_is_found_fits_and_the_next_does_not(fixed, per_picture, budget):
    asked = []

    def compute_peak(batch_size):
        asked.append(batch_size)
        # A step on the way: the worst moment is another one for larger batches.
        return max(fixed + per_picture * batch_size, 2 * per_picture * (batch_size - 20))

    batch_size, peak_bytes = find_largest_batch(compute_peak, budget)
    assert len(asked) < 40
    if batch_size == 0:
        assert peak_bytes == compute_peak(1) > budget
    else:
        assert peak_bytes == compute_peak(batch_size) <= budget
        assert batch_size == 65535 or compute_peak(batch_size + 1) > budget


def test_amounts_of_memory():
    assert parse_memory("8GB") == 8 * 10**9
    assert parse_memory(" 1.5 gib ") == 3 * 2**29
    for text in ("8", "GB", "-1GB", "0GB", "8GBs", "8 kB"):
        with pytest.raises(ConfigError, match="8GB"):
            parse_memory(text)
