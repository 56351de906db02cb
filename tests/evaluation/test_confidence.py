"""Calibration and risk-coverage: a referee, exact small cases, properties."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from atrous.classes import IGNORE_INDEX
from atrous.engines.logits import compute_confidence, compute_mask
from atrous.errors import DataError
from atrous.evaluation.calibration import TemperatureFit
from atrous.evaluation.confidence import ConfidenceCounts


def draw(seed, sharpness=1.0, num_classes=5, size=(40, 50)):
    """Logits, and a mask that follows the probabilities of `sharpness` times these logits."""
    rng = np.random.default_rng(seed)
    logits = torch.as_tensor(rng.normal(0, 2, (num_classes, *size)), dtype=torch.float32)
    probs = (logits * sharpness).softmax(0).numpy()
    mask = (probs.cumsum(0) < rng.random(size)).sum(0).clip(max=num_classes - 1).astype(np.uint8)
    mask[:3] = IGNORE_INDEX
    return logits, torch.as_tensor(mask)


def score(*images, temperature=1.0):
    counts = ConfidenceCounts(5, temperature=temperature)
    for logits, mask in images:
        counts.update(logits, compute_mask(logits), mask)
    return counts.compute()


def test_confidence_is_the_largest_probability():
    logits, _ = draw(0)
    expected = (logits / 1.7).softmax(0).amax(0)
    torch.testing.assert_close(compute_confidence(logits, 1.7), expected)


def test_calibration_error_equals_torchmetrics():
    images = [draw(1), draw(2, sharpness=0.5)]
    referee = MulticlassCalibrationError(5, n_bins=15, norm="l1", ignore_index=IGNORE_INDEX)
    for logits, mask in images:
        referee.update(logits.softmax(0)[None], mask[None].long())
    scores = score(*images)
    assert scores.ece == pytest.approx(referee.compute().item(), abs=1e-6)
    assert sum(row.pixels for row in scores.bins) == 2 * 37 * 50


def test_leaving_out_unsure_pixels_keeps_the_surest():
    logits, mask = draw(3)
    kept = {row.coverage: row for row in score((logits, mask)).risk_coverage}
    labelled = mask != IGNORE_INDEX
    order = compute_confidence(logits)[labelled].argsort(descending=True)
    right = (compute_mask(logits) == mask)[labelled][order].double()
    for coverage in (1.0, 0.9, 0.5):
        expected = right[: round(coverage * len(right))].mean().item()
        assert kept[coverage].pixel_accuracy == pytest.approx(expected, abs=0.004)
    assert kept[0.5].miou > kept[1.0].miou


def test_a_temperature_that_is_known_is_found_and_calibrates():
    fit = TemperatureFit()
    images = [draw(seed, sharpness=0.4) for seed in range(12)]
    for logits, mask in images:
        fit.update(logits, mask)
    temperature = fit.compute()
    assert temperature == pytest.approx(1 / 0.4, rel=0.05)
    assert score(*images, temperature=temperature).ece < 0.02 < score(*images).ece


def test_masks_without_labels_are_refused():
    logits, mask = draw(4)
    with pytest.raises(DataError, match="no mask has a labelled pixel"):
        score((logits, torch.full_like(mask, IGNORE_INDEX)))
    fit = TemperatureFit()
    fit.update(logits, torch.full_like(mask, IGNORE_INDEX))
    with pytest.raises(DataError, match="no mask has a labelled pixel"):
        fit.compute()
