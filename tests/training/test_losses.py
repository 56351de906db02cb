import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from atrous.classes import IGNORE_INDEX
from atrous.profile.activations import AllocationMode
from atrous.training import losses as losses_module
from atrous.training.losses import (
    SegmentationLoss,
    compute_dice_loss,
    compute_focal_loss,
    compute_lovasz_loss,
)

TERMS = ["cross_entropy", "focal", "dice", "lovasz"]


def make_batch(seed: int = 0, num_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, 6, 5, generator=generator)
    mask = torch.randint(0, num_classes, (2, 6, 5), generator=generator)
    mask[:, 0] = IGNORE_INDEX
    return logits, mask


def build_loss(term: str, **options) -> SegmentationLoss:
    return SegmentationLoss(**{"cross_entropy": 0.0, term: 1.0, **options})


def certain_logits(mask: torch.Tensor, num_classes: int) -> torch.Tensor:
    indices = mask.masked_fill(mask == IGNORE_INDEX, 0)
    return 50 * F.one_hot(indices, num_classes).movedim(-1, 1).float()


@pytest.mark.parametrize("term", TERMS)
def test_ignored_pixels_have_no_effect(term):
    logits, mask = make_batch()
    loss = build_loss(term)
    changed = logits.clone()
    changed[:, :, 0] += 100 * torch.randn(2, 4, 5)
    assert torch.equal(loss(logits, mask), loss(changed, mask))
    logits.requires_grad_()
    loss(logits, mask).backward()
    assert logits.grad[:, :, 0].abs().max() == 0
    assert logits.grad[:, :, 1:].abs().max() > 0


@pytest.mark.parametrize("term", TERMS)
def test_perfect_is_zero_and_wrong_is_not(term):
    _, mask = make_batch()
    loss = build_loss(term)
    assert loss(certain_logits(mask, 4), mask).item() == pytest.approx(0, abs=1e-5)
    assert loss(certain_logits((mask + 1) % 4, 4), mask).item() > 0.5


@pytest.mark.parametrize("term", TERMS)
def test_a_batch_of_ignored_pixels_has_zero_loss_and_finite_gradients(term):
    logits, mask = make_batch()
    logits.requires_grad_()
    loss = build_loss(term)(logits, torch.full_like(mask, IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_pixels_of_classes_without_weight_are_no_nan():
    logits, mask = make_batch()
    loss = SegmentationLoss(class_weights=[0.0, 1.0, 1.0, 1.0])
    assert loss(logits, torch.zeros_like(mask)).item() == 0


def test_the_deterministic_way_gives_the_same_loss():
    logits, mask = make_batch()
    loss = SegmentationLoss(class_weights=[1.0, 2.0, 0.5, 0.0], label_smoothing=0.1, focal=1.0)
    plain = loss(logits, mask)
    torch.use_deterministic_algorithms(True)
    try:
        assert loss(logits, mask).item() == pytest.approx(plain.item(), rel=1e-6)
    finally:
        torch.use_deterministic_algorithms(False)


def test_cross_entropy_is_torchs():
    logits, mask = make_batch()
    weights = [1.0, 2.0, 0.5, 0.0]
    loss = SegmentationLoss(class_weights=weights, label_smoothing=0.1)(logits, mask)
    expected = F.cross_entropy(
        logits, mask, torch.tensor(weights), ignore_index=IGNORE_INDEX, label_smoothing=0.1
    )
    assert torch.equal(loss, expected)


def test_focal_without_gamma_is_cross_entropy_and_with_gamma_forgives_easy_pixels():
    logits, mask = make_batch()
    plain = F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX)
    assert compute_focal_loss(logits, mask, gamma=0.0).item() == pytest.approx(plain.item())
    assert compute_focal_loss(logits, mask, gamma=2.0) < plain


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_lovasz_of_certain_predictions_is_one_minus_iou(seed):
    _, mask = make_batch(seed)
    _, guess = make_batch(seed + 1)
    guess = guess.masked_fill(guess == IGNORE_INDEX, 0)
    valid = mask != IGNORE_INDEX
    ious = [
        ((guess == c) & (mask == c) & valid).sum() / (((guess == c) | (mask == c)) & valid).sum()
        for c in mask[valid].unique()
    ]
    expected = 1 - torch.stack(ious).mean()
    assert compute_lovasz_loss(certain_logits(guess, 4), mask).item() == pytest.approx(
        expected.item(), abs=1e-5
    )


def test_dice_of_certain_predictions_is_one_minus_f1():
    _, mask = make_batch(3)
    guess = make_batch(4)[1].masked_fill(make_batch(4)[1] == IGNORE_INDEX, 0)
    valid = mask != IGNORE_INDEX
    scores = []
    for c in range(4):
        hit = ((guess == c) & (mask == c) & valid).sum()
        scores.append(2 * hit / (((guess == c) & valid).sum() + (mask == c).sum()))
    expected = 1 - torch.stack(scores).mean()
    assert compute_dice_loss(certain_logits(guess, 4), mask).item() == pytest.approx(
        expected.item(), abs=1e-5
    )


@pytest.mark.parametrize("weights", [None, [1.0, 5.0, 0.0, 0.2]])
def test_the_losses_of_parts_add_up_to_that_of_the_whole(weights):
    logits, mask = (torch.cat(pair) for pair in zip(make_batch(0), make_batch(1), strict=True))
    mask[0, 2:] = IGNORE_INDEX  # parts have unequal numbers of labelled pixels, the last has none
    mask[-1] = IGNORE_INDEX
    criterion = SegmentationLoss(
        cross_entropy=0.7, focal=1.3, label_smoothing=0.1, auxiliary=0.4, class_weights=weights
    )
    whole = logits.clone().requires_grad_()
    criterion(whole, mask, whole * 2).backward()
    parts = [part.clone().requires_grad_() for part in logits.split(1)]
    masks = mask.split(1)
    shares = criterion.compute_shares([part.to(torch.uint8) for part in masks])
    for part, target, share in zip(parts, masks, shares, strict=True):
        criterion(part, target, part * 2, share).backward()
    assert whole.grad[0].any()
    torch.testing.assert_close(torch.cat([part.grad for part in parts]), whole.grad)


@pytest.mark.parametrize("term", TERMS)
def test_image_by_image_it_has_the_loss_and_gradient_of_the_batch(term, monkeypatch):
    logits, mask = (torch.cat(pair) for pair in zip(make_batch(0), make_batch(1), strict=True))
    mask[2] = IGNORE_INDEX
    logits = logits[..., ::2, ::2].clone().requires_grad_()
    criterion = build_loss(term, class_weights=[1.0, 5.0, 0.0, 0.2])
    losses, grads = [], []
    for limit in (losses_module._MAX_LOGITS, 1):
        monkeypatch.setattr(losses_module, "_MAX_LOGITS", limit)
        losses.append(criterion(logits, mask, logits * 2))
        grads += torch.autograd.grad(losses[-1], logits)
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(grads[1], grads[0])


def test_image_by_image_it_needs_less_memory(monkeypatch):
    logits, mask = torch.randn(8, 20, 8, 8), torch.randint(0, 20, (8, 64, 64))
    criterion = SegmentationLoss(cross_entropy=1.0, dice=1.0)
    peaks = []
    for limit in (losses_module._MAX_LOGITS, 1):
        monkeypatch.setattr(losses_module, "_MAX_LOGITS", limit)
        with AllocationMode() as allocations:
            criterion(logits.requires_grad_(), mask).backward()
        peaks.append(allocations.peak_bytes)
    assert peaks[1] < peaks[0] / 4


def test_a_batch_alone_is_the_whole_and_ignored_pixels_alone_count_nothing():
    ignored = torch.full((1, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    criterion = SegmentationLoss()
    assert criterion.compute_shares([ignored]) == [(1.0, 1.0)]
    assert criterion.compute_shares([ignored, ignored]) == [(0.0, 0.0)] * 2


def test_terms_add_up_and_the_auxiliary_logits_count_by_their_weight():
    logits, mask = make_batch()
    other, _ = make_batch(1)
    parts = [build_loss(term)(logits, mask) for term in TERMS]
    weights = (1.0, 0.5, 2.0, 0.25)
    both = SegmentationLoss(**dict(zip(TERMS, weights, strict=True)), auxiliary=0.4)
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert both(logits, mask).item() == pytest.approx(expected.item(), rel=1e-5)
    with_auxiliary = both(logits, mask, other)
    assert with_auxiliary.item() == pytest.approx(
        (both(logits, mask) + 0.4 * both(other, mask)).item(), rel=1e-5
    )
