"""Each convention against the library that reports it, on the same pixels."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from atrous.errors import DataError
from atrous.evaluation import compute_conventions
from atrous.evaluation.counts import compute_tp_fp_fn, count_confusion

NUM_CLASSES = 6


@pytest.fixture(scope="module")
def pixels():
    """(predictions, masks) of four images; class 4 is only predicted, class 5 never occurs."""
    rng = np.random.default_rng(3)
    masks = rng.integers(0, 4, (4, 11, 9), dtype=np.uint8)
    masks[0][masks[0] == 3] = 1
    wrong = rng.integers(0, 5, masks.shape, dtype=np.uint8)
    return np.where(rng.random(masks.shape) < 0.7, masks, wrong), masks


@pytest.fixture(scope="module")
def scored(pixels):
    counts = np.stack(
        [
            compute_tp_fp_fn(count_confusion(*map(torch.from_numpy, pair), NUM_CLASSES))
            for pair in zip(*pixels, strict=True)
        ]
    )
    return {row.key: row for row in compute_conventions(counts)}


def ask_scikit(predicted, true, average, labels, zero_division=0):
    arguments = {"average": average, "labels": labels, "zero_division": zero_division}
    rest = sklearn_metrics.precision_recall_fscore_support(true, predicted, **arguments)[:3]
    return [sklearn_metrics.jaccard_score(true, predicted, **arguments), *rest]


def values(row):
    return [row.iou, row.precision, row.recall, row.f1]


def test_data_set_conventions_equal_scikit_learn(pixels, scored):
    predicted, true = (array.ravel() for array in pixels)
    everything = range(NUM_CLASSES)
    for key, average, labels in (
        ("dataset-macro", "macro", [0, 1, 2, 3]),
        ("dataset-macro-union", "macro", [0, 1, 2, 3, 4]),
        ("dataset-macro-absent-0", "macro", everything),
        ("dataset-weighted", "weighted", everything),
        ("dataset-micro", "micro", everything),
    ):
        assert values(scored[key]) == pytest.approx(ask_scikit(predicted, true, average, labels)), (
            key
        )
    ones = ask_scikit(predicted, true, "macro", everything, zero_division=1)
    assert values(scored["dataset-macro-absent-1"]) == pytest.approx(ones)


def test_conventions_per_image_equal_scikit_learn_called_per_image(pixels, scored):
    everything = range(NUM_CLASSES)
    pairs = [(predicted.ravel(), true.ravel()) for predicted, true in zip(*pixels, strict=True)]
    for key, average, labels, zero_division in (
        ("image-macro", "macro", lambda predicted, true: np.unique(true), 0),
        ("image-macro-union", "macro", np.union1d, 0),
        ("image-macro-absent-1", "macro", lambda *_: everything, 1),
        ("image-macro-absent-0", "macro", lambda *_: everything, 0),
        ("image-weighted", "weighted", lambda *_: everything, 0),
        ("image-micro", "micro", lambda *_: everything, 0),
    ):
        per_image = [ask_scikit(*pair, average, labels(*pair), zero_division) for pair in pairs]
        assert values(scored[key]) == pytest.approx(np.mean(per_image, axis=0)), key


def test_one_vs_rest_equals_scikit_learn_on_flattened_one_hot_masks(pixels, scored):
    predicted, true = (np.eye(NUM_CLASSES, dtype=int)[array].ravel() for array in pixels)
    expected = ask_scikit(predicted, true, "weighted", [0, 1])
    assert values(scored["one-vs-rest"]) == pytest.approx(expected)
    # Each wrong pixel is wrong in two of the planes, whatever else is averaged.
    error_rate = (pixels[0] != pixels[1]).mean()
    assert scored["one-vs-rest"].recall == pytest.approx(1 - 2 * error_rate / NUM_CLASSES)


def test_torchmetrics_is_named_where_it_agrees(pixels, scored):
    predicted, true = (torch.as_tensor(array).long() for array in pixels)
    jaccard = MulticlassJaccardIndex(NUM_CLASSES, average="macro")(predicted, true)
    assert scored["dataset-macro-union"].iou == pytest.approx(jaccard.item())
    pairs = MeanIoU(NUM_CLASSES, input_format="index")(predicted, true)
    assert scored["image-class-pairs"].iou == pytest.approx(pairs.item())


def test_an_image_without_labels_is_left_out_and_nothing_else_is_refused(pixels):
    empty = np.zeros((1, NUM_CLASSES, 3), np.int64)
    counts = np.array([[[3, 1, 0], [2, 0, 1]]])
    counts = np.concatenate([counts, np.zeros((1, 4, 3), np.int64)[None, 0]], axis=1)
    with_empty = np.concatenate([counts, empty])
    assert compute_conventions(with_empty) == compute_conventions(counts)
    with pytest.raises(DataError, match="no mask has a labelled pixel"):
        compute_conventions(empty)
