import numpy as np
import pytest
import torch

from atrous.classes import build_classes
from atrous.errors import DataError
from atrous.evaluation.label_parts import find_parts
from atrous.evaluation.label_quality import LabelRanking
from atrous.evaluation.planted_errors import ERROR_KINDS, label_regions, plant_errors

CLASSES = build_classes(["field", "pond", "barn"])
SIDE_PX = 96


def draw_mask(seed):
    """A field with a pond and a barn."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    mask[(y - rng.integers(20, 76)) ** 2 + (x - 24) ** 2 < rng.integers(10, 16) ** 2] = 1
    top, height = rng.integers(10, 60), rng.integers(16, 30)
    mask[top : top + height, 52:78] = 2
    return mask


def predict(mask, noise_seed=None):
    """Confident logits of the mask; with noise, edges off by up to two pixels."""
    if noise_seed is not None:
        mask = np.roll(mask, np.random.default_rng(noise_seed).integers(-2, 3, 2), (0, 1))
    return 8.0 * torch.nn.functional.one_hot(torch.from_numpy(mask).long(), 3).permute(2, 0, 1)


def rank(masks, labels, noisy=True):
    ranking = LabelRanking(CLASSES, num_images=len(masks))
    for index, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        logits = predict(mask, index if noisy else None)
        ranking.update(f"image{index}", logits, torch.from_numpy(label))
    return ranking.compute()


@pytest.fixture(scope="module")
def masks():
    return [draw_mask(seed) for seed in range(24)]


def test_a_region_of_the_wrong_class_and_a_missing_one_are_ranked_first(masks):
    labels = [mask.copy() for mask in masks]
    labels[3][masks[3] == 2] = 1
    labels[8][masks[8] == 1] = 0
    report = rank(masks, labels)
    first, second, third = report.regions[:3]
    found = {(row.image, row.given, row.suggested) for row in (first, second)}
    assert found == {("image3", "pond", "barn"), ("image8", "field", "pond")}
    assert second.score > 0.5 > third.score
    assert {row.image for row in report.images[:2]} == {"image3", "image8"}
    assert (report.num_suspects, len(report.images)) == (2, 24)


def test_the_box_is_that_of_the_part_with_another_class(masks):
    labels = [mask.copy() for mask in masks]
    labels[3][masks[3] == 2] = 1
    rows, columns = np.nonzero(masks[3] == 2)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    row = rank(masks, labels, noisy=False).regions[0]
    assert (row.image, row.box) == ("image3", box)


def test_right_labels_have_no_suspects(masks):
    assert rank(masks, masks, noisy=False).regions == ()
    assert rank(masks, masks).num_suspects == 0


def test_ignored_pixels_are_never_suspect(masks):
    labels = [mask.copy() for mask in masks]
    for label, mask in zip(labels, masks, strict=True):
        label[mask == 2] = 255
    report = rank(masks, labels, noisy=False)
    assert report.regions == ()
    with pytest.raises(DataError, match=r"no labels to rank.*0\.1%"):
        rank(masks, [np.full_like(mask, 255) for mask in masks])


def test_a_single_image_is_ranked(masks):
    report = rank(masks[:1], masks[1:2])
    assert report.regions
    assert all(0 <= row.score <= 1 for row in report.regions)


def test_what_is_kept_of_an_image_does_not_grow_with_its_size(masks):
    def count_bytes(mask):
        parts = find_parts(predict(mask, 0).log_softmax(0), mask)
        return sum(values.nbytes for values in vars(parts).values() if np.ndim(values))

    assert count_bytes(masks[0].repeat(4, 0).repeat(4, 1)) <= count_bytes(masks[0])


@pytest.mark.parametrize("kind", ERROR_KINDS)
def test_planted_errors_change_labels_of_one_region_and_no_ignored_ones(masks, kind):
    mask = masks[0].copy()
    mask[:, :8] = 255
    changed, errors = plant_errors(mask, 3, np.random.default_rng(1), share=1.0, kinds=(kind,))
    assert errors
    union = np.any([error.changed for error in errors], axis=0)
    assert np.array_equal(union, changed != mask)
    assert {error.kind for error in errors} == {kind}
    if kind == "dropped":
        assert (changed[union] != 255).all()


def test_regions_are_those_of_scipy_for_each_class(masks):
    from scipy import ndimage

    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (40, 50))
    valid = rng.random(values.shape) < 0.9
    ids = label_regions(values, valid)
    assert ((ids > 0) == valid).all()
    for value in range(4):
        expected, number = ndimage.label((values == value) & valid, np.ones((3, 3)))
        pairs = set(zip(expected[expected > 0], ids[expected > 0], strict=True))
        assert len(pairs) == number == len({new for _, new in pairs})
