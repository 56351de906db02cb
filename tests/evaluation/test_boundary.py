"""Scores of edges and objects against loops over pixels, and properties."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from atrous.classes import IGNORE_INDEX
from atrous.errors import ConfigError
from atrous.evaluation.boundary import BoundaryCounts, dilate, find_band, find_edges
from atrous.evaluation.objects import ObjectCounts

NUM_CLASSES = 4


def make_pair(seed, size=(37, 29)):
    """A mask of blobs with some ignored pixels, and a prediction with shifted edges."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((NUM_CLASSES, *size)), (0, 4, 4))
    mask = noise.argmax(0).astype(np.uint8)
    prediction = np.roll(mask, (1, -2), (0, 1))
    prediction[rng.random(size) < 0.03] = 3
    mask[rng.random(size) < 0.05] = IGNORE_INDEX
    return prediction, mask


def score(*pairs, **options):
    counts = BoundaryCounts(NUM_CLASSES, **options)
    for prediction, mask in pairs:
        counts.update(torch.as_tensor(prediction), torch.as_tensor(mask))
    return counts.compute()


def test_boundary_iou_equals_erosion_class_by_class():
    pairs = [make_pair(0), make_pair(1, (50, 61))]
    scores = score(*pairs, dilation_ratio=0.05)
    for index in range(NUM_CLASSES):
        intersection = union = 0
        for prediction, mask in pairs:
            width_px = round(0.05 * math.hypot(*mask.shape))
            inner = []
            for labels in (prediction, mask):
                one = labels == index
                eroded = ndimage.binary_erosion(one, np.ones((3, 3)), width_px, border_value=0)
                inner.append(one & ~eroded & (mask != IGNORE_INDEX))
            intersection += (inner[0] & inner[1]).sum()
            union += (inner[0] | inner[1]).sum()
        assert scores.boundary_iou_per_class[index] == pytest.approx(intersection / union)
    assert scores.boundary_iou == pytest.approx(np.mean(scores.boundary_iou_per_class))


def test_bf_score_equals_distances_between_all_pairs_of_edge_pixels():
    pairs = [make_pair(2), make_pair(3)]
    expected = []
    for prediction, mask in pairs:
        tolerance_px = 0.06 * math.hypot(*mask.shape)
        per_class = []
        for index in np.unique(mask[mask != IGNORE_INDEX]):
            true = np.argwhere(find_edges(mask) & (mask == index))
            found = np.argwhere(
                find_edges(prediction) & (prediction == index) & (mask != IGNORE_INDEX)
            )
            if not len(true):
                continue
            near = np.linalg.norm(true[:, None] - found[None], axis=-1) <= tolerance_px
            precision, recall = near.any(axis=0).mean(), near.any(axis=1).mean()
            per_class.append(2 * precision * recall / (precision + recall))
        expected.append(np.mean(per_class))
    assert score(*pairs, bf_tolerance_ratio=0.06).bf_score == pytest.approx(np.mean(expected))


def test_the_trimap_counts_pixels_within_the_width_of_an_edge():
    prediction, mask = make_pair(4)
    near = ndimage.distance_transform_edt(~find_edges(mask)) <= 3
    labels = np.where(near, mask, IGNORE_INDEX)
    ious = []
    for index in np.unique(labels[labels != IGNORE_INDEX]):
        predicted, true = (prediction == index) & (labels != IGNORE_INDEX), labels == index
        ious.append((predicted & true).sum() / (predicted | true).sum())
    band = score((prediction, mask), trimap_widths_px=(1, 3)).trimap[1]
    assert (band.width_px, band.miou) == (3, pytest.approx(np.mean(ious)))


def test_a_perfect_prediction_scores_one_and_ignored_pixels_never_counts():
    prediction, mask = make_pair(5)
    perfect = np.where(mask == IGNORE_INDEX, prediction, mask)
    scores = score((perfect, np.where(mask == IGNORE_INDEX, perfect, mask)))
    assert (scores.boundary_iou, scores.bf_score) == (1, 1)
    assert {band.miou for band in scores.trimap} == {1}
    empty = score((prediction, np.full_like(mask, IGNORE_INDEX)))
    assert (empty.boundary_iou, empty.bf_score) == (None, None)
    assert {band.miou for band in empty.trimap} == {None}


def test_a_blunter_prediction_scores_lower_at_the_edge_than_inside():
    mask = np.zeros((80, 80), np.uint8)
    mask[20:60, 20:60] = 1
    blunt = np.zeros_like(mask)
    blunt[23:57, 23:57] = 1
    scores = score((blunt, mask), trimap_widths_px=(2, 40))
    iou = 34**2 / 40**2
    assert scores.boundary_iou_per_class[1] < iou
    assert scores.trimap[0].miou < scores.trimap[1].miou
    assert scores.bf_score == 0


def test_an_image_of_one_class_has_no_edge():
    mask = np.zeros((8, 8), np.uint8)
    assert score((mask, mask)).bf_score is None
    assert find_band(mask, 1).sum() == 64 - 36  # the rim of the image bounds a class


def test_dilation_is_a_disc():
    planes = np.zeros((2, 15, 15), bool)
    planes[1, 2, 7] = True
    rows, columns = np.indices((15, 15))
    disc = (rows - 2) ** 2 + (columns - 7) ** 2 <= 4.3**2
    assert np.array_equal(dilate(planes, 4.3), np.stack([planes[0], disc]))


def test_widths_must_rise():
    with pytest.raises(ConfigError, match="rise"):
        BoundaryCounts(3, trimap_widths_px=(4, 2))


def test_recall_of_objects_goes_by_their_own_area():
    mask = np.zeros((120, 120), np.uint8)
    mask[2:12, 2:12] = 1  # small, found
    mask[20:30, 20:30] = 1  # small, 40 % found
    mask[40:90, 40:90] = 2  # medium, missed
    mask[100:, :] = IGNORE_INDEX
    prediction = np.zeros_like(mask)
    prediction[2:12, 2:12] = 1
    prediction[20:24, 20:30] = 1
    counts = ObjectCounts()
    counts.update(torch.as_tensor(prediction), torch.as_tensor(mask))
    small, medium, large = counts.compute()
    assert (small.num_objects, small.recall, small.found) == (2, pytest.approx(0.7), 0.5)
    assert (medium.num_objects, medium.recall, medium.found) == (1, 0, 0)
    # The background is the one large region; what is wrongly called an object is no miss of it.
    assert (large.num_objects, large.recall) == (1, 1)
    assert ObjectCounts().compute()[0].recall is None
