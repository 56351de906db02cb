"""Taps that training never reaches: they are found, and zeroing them changes no training step."""

import pytest
import torch

from atrous.models import build_model
from atrous.models.untrained_taps import fit_rates, list_untrained_taps, zero_untrained_taps

SIZE_HW = (96, 96)  # 6x6 cells at output stride 16


def build(**options):
    torch.manual_seed(0)
    name = "deeplabv3plus_resnet18"
    return build_model(name, num_classes=3, dropout=0.0, atrous_rates=(2, 5, 6), **options)


@pytest.mark.parametrize("separable", [False, True])
def test_taps_at_the_size_of_the_map_and_beyond_get_no_gradient(separable):
    model = build(separable=separable)
    model(torch.randn(2, 3, *SIZE_HW)).square().sum().backward()
    (taps,) = list_untrained_taps(model, SIZE_HW)
    assert (taps.rate, taps.num_untrained, taps.num_taps, taps.are_zero) == (6, 8, 9, False)
    weights = dict(model.named_parameters())
    reached = [[False] * 3, [False, True, False], [False] * 3]
    assert weights[taps.name].grad.abs().sum((0, 1)).bool().tolist() == reached
    others = [
        conv.weight.grad
        for conv in model.head.aspp.modules()
        if isinstance(conv, torch.nn.Conv2d) and conv.dilation[0] in (2, 5)
    ]
    assert all(grad.abs().sum((0, 1)).all() for grad in others)


def test_zeroing_changes_no_training_step_and_removes_noise_at_full_size():
    plain, zeroed = build(separable=True), build(separable=True)
    (taps,) = zero_untrained_taps(zeroed, SIZE_HW)
    assert taps.are_zero
    image = torch.randn(2, 3, *SIZE_HW)
    losses = []
    for model in (plain, zeroed):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        for _ in range(3):
            loss = model.train()(image).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:3] == losses[3:]
    (after,) = list_untrained_taps(zeroed, SIZE_HW)
    assert after.are_zero, "they stay zero"
    large = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        assert torch.equal(plain.eval()(image), zeroed.eval()(image))
        assert not torch.equal(plain(large), zeroed(large))


def test_loaded_weights_stay_as_they_are():
    model = build()
    (taps,) = list_untrained_taps(model, SIZE_HW)
    assert zero_untrained_taps(model, SIZE_HW, keep={taps.name}) == []
    assert list_untrained_taps(model, SIZE_HW) == [taps]


def test_a_map_that_reaches_all_taps_has_none():
    assert list_untrained_taps(build(), (112, 112)) == []


@pytest.mark.parametrize(
    ("stride", "size_px", "rates"),
    [(16, 513, (6, 12, 18)), (8, 513, (12, 24, 36)), (16, 256, (3, 6, 9)), (32, 32, (1, 1, 1))],
)
def test_fitting_rates_cover_the_same_share_of_the_image(stride, size_px, rates):
    assert fit_rates("deeplabv3plus_resnet18", stride, size_px) == rates
    model = build_model("deeplabv3plus_resnet18", output_stride=stride, atrous_rates=rates)
    assert size_px == 32 or not list_untrained_taps(model, (size_px, size_px))
