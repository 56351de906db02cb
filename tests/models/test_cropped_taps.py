"""Cropped taps: less work, the same result."""

import pytest
import torch
from torch import nn

from atrous.models import build_model
from atrous.models.cropped_taps import CroppedConv2d, compute_saving, crop_taps, split_side


@pytest.mark.parametrize("rate", [2, 3, 5, 6, 7, 9, 12])
@pytest.mark.parametrize("size", [(6, 10), (9, 7), (12, 13), (24, 8), (1, 1)])
def test_a_cropped_convolution_gives_the_same(size, rate):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=rate, dilation=rate).double()
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        expected = conv(features)
        conv.__class__ = CroppedConv2d
        assert torch.allclose(conv(features), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rate", range(1, 14))
@pytest.mark.parametrize("size", range(1, 14))
def test_bands_cover_a_side_once_and_never_read_outside(size, rate):
    bands = split_side(size, rate)
    assert [row for band in bands for row in range(band.start, band.stop)] == list(range(size))
    for band in bands:
        for row in range(band.start, band.stop):
            reached = [tap for tap in (0, 1, 2) if 0 <= row + (tap - 1) * rate < size]
            assert reached == list(range(band.first_tap, band.last_tap + 1))


def test_rates_12_24_36_on_65_cells_multiply_by_padding_in_42_percent():
    savings = [compute_saving((65, 65), (rate, rate)) for rate in (12, 24, 36)]
    assert sum(savings) / 3 == pytest.approx(0.42, abs=0.005)


def test_only_what_can_be_cropped_is_and_weights_are_shared():
    model = build_model("deeplabv3_resnet18", num_classes=3, output_stride=8).eval()
    cropped = crop_taps(model)
    assert all(
        ours is theirs
        for ours, theirs in zip(cropped.parameters(), model.parameters(), strict=True)
    )
    assert not any(isinstance(module, CroppedConv2d) for module in model.modules())
    kinds = {type(view[0]) for view in list(cropped.head[0].convs)[1:4]}
    assert kinds == {CroppedConv2d}
    image = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        assert torch.allclose(cropped(image), model(image), atol=1e-5)
