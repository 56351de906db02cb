"""Counts and scores: referees, a brute-force loop, and properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torchmetrics.classification import MulticlassJaccardIndex

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.errors import DataError
from atrous.evaluation import Counts, compute_scores
from atrous.evaluation.counts import compute_tp_fp_fn


def count(num_classes, prediction, mask):
    counts = Counts(num_classes)
    counts.update(torch.as_tensor(prediction), torch.as_tensor(mask))
    return counts


def classes_of(num_classes):
    return build_classes([f"c{index}" for index in range(num_classes)])


@st.composite
def labelled(draw):
    """Number of classes, prediction, and mask with ignored and at least one labelled pixel."""
    num_classes = draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    used = draw(st.integers(1, num_classes))  # the other classes are absent from the mask
    mask = rng.integers(0, used, size, dtype=np.uint8)
    mask[rng.random(size) < draw(st.sampled_from([0, 0.3]))] = IGNORE_INDEX
    mask.flat[0] = 0
    return num_classes, rng.integers(0, num_classes, size, dtype=np.uint8), mask


@given(labelled())
@settings(max_examples=40, deadline=None)
def test_scores_equal_those_of_scikit_learn_and_torchmetrics(case):
    num_classes, prediction, mask = case
    scores = compute_scores(count(*case), classes_of(num_classes))
    true, predicted = mask[mask != IGNORE_INDEX], prediction[mask != IGNORE_INDEX]
    present = sorted(set(true.tolist()))
    macro = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, labels=present, average="macro", zero_division=0
    )
    micro = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, labels=range(num_classes), average="micro", zero_division=0
    )
    assert (scores.precision_macro, scores.recall_macro, scores.f1_macro) == pytest.approx(
        macro[:3]
    )
    assert (scores.precision_micro, scores.recall_micro, scores.f1_micro) == pytest.approx(
        micro[:3]
    )
    assert scores.pixel_accuracy == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    jaccard = sklearn_metrics.jaccard_score(true, predicted, labels=present, average="macro")
    assert scores.miou == pytest.approx(jaccard)
    weighted = sklearn_metrics.jaccard_score(true, predicted, labels=present, average="weighted")
    assert scores.frequency_weighted_iou == pytest.approx(weighted)
    if num_classes > 1:
        referee = MulticlassJaccardIndex(num_classes, average="none", ignore_index=IGNORE_INDEX)
        ious = referee(torch.as_tensor(prediction)[None], torch.as_tensor(mask)[None].long())
        assert [scores.per_class[c].iou for c in present] == pytest.approx(ious[present].tolist())


@given(labelled())
@settings(max_examples=30, deadline=None)
def test_counts_equal_a_loop_over_pixels(case):
    num_classes, prediction, mask = case
    counts = Counts(num_classes)
    errors = counts.update(torch.as_tensor(prediction), torch.as_tensor(mask))
    expected = np.zeros((num_classes, num_classes), np.int64)
    for predicted, true in zip(prediction.flat, mask.flat, strict=True):
        if true != IGNORE_INDEX:
            expected[true, predicted] += 1
    assert np.array_equal(counts.confusion, expected)
    for index in range(num_classes):
        hit = expected[index, index]
        others = expected[:, index].sum() - hit, expected[index].sum() - hit
        assert errors[index].tolist() == [hit, *others]


@given(labelled(), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_parts_add_up_to_the_whole(case, row):
    num_classes, prediction, mask = case
    parts = count(num_classes, prediction[:row], mask[:row])
    parts = parts + count(num_classes, prediction[row:], mask[row:])
    assert np.array_equal(parts.confusion, count(*case).confusion)
    assert parts.num_images == 2


@given(labelled(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_renaming_classes_renames_scores(case, random):
    num_classes, prediction, mask = case
    order = list(range(num_classes))
    random.shuffle(order)
    renamed = np.array([*order, *range(num_classes, IGNORE_INDEX + 1)], np.uint8)
    before = compute_scores(count(*case), classes_of(num_classes))
    after = compute_scores(
        count(num_classes, renamed[prediction], renamed[mask]), classes_of(num_classes)
    )
    assert after.miou == pytest.approx(before.miou)
    for index in range(num_classes):
        assert after.per_class[order[index]].iou == before.per_class[index].iou


@given(labelled())
@settings(max_examples=20, deadline=None)
def test_ignored_pixels_never_counts_and_a_perfect_prediction_scores_one(case):
    num_classes, prediction, mask = case
    other = np.where(mask == IGNORE_INDEX, (prediction + 1) % num_classes, prediction).astype(
        np.uint8
    )
    assert np.array_equal(count(*case).confusion, count(num_classes, other, mask).confusion)
    perfect = np.where(mask == IGNORE_INDEX, 0, mask).astype(np.uint8)
    scores = compute_scores(count(num_classes, perfect, mask), classes_of(num_classes))
    assert (scores.miou, scores.f1_macro, scores.frequency_weighted_iou) == (1, 1, 1)


def test_absent_classes_are_listed_and_left_out_but_their_false_positives_cost():
    mask = torch.tensor([[0, 0, 1, 1]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 2, 1, 1]], dtype=torch.uint8)
    scores = compute_scores(count(4, prediction, mask), classes_of(4))
    assert scores.absent == ("c2", "c3")
    assert scores.miou == (0.5 + 1) / 2
    assert scores.pixel_accuracy == scores.precision_micro == 0.75
    json = scores.to_json()
    assert json["per_class"][2] == {
        "name": "c2", "index": 2, "pixels": 0,
        "iou": None, "precision": None, "recall": None, "f1": None,
    }  # fmt: skip
    assert "absent" in json["convention"]


def test_a_class_that_is_never_predicted_has_precision_zero():
    mask = torch.tensor([[0, 1]], dtype=torch.uint8)
    scores = compute_scores(count(2, torch.zeros_like(mask), mask), classes_of(2))
    assert (scores.per_class[1].precision, scores.precision_macro) == (0, 0.25)


def test_what_cannot_be_counted_is_refused():
    ignored = torch.full((2, 2), IGNORE_INDEX, dtype=torch.uint8)
    with pytest.raises(DataError, match="no mask has a labelled pixel"):
        compute_scores(count(2, torch.zeros_like(ignored), ignored), classes_of(2))
    with pytest.raises(DataError, match="values 7, 9"):
        count(2, torch.zeros(1, 3, dtype=torch.uint8), torch.tensor([[7, 0, 9]]).byte())
    with pytest.raises(ValueError, match="differ in size"):
        count(2, torch.zeros(2, 1).byte(), torch.zeros(1, 2).byte())


def test_counts_survive_numpy():
    counts = count(3, torch.tensor([[0, 2]]).byte(), torch.tensor([[1, 2]]).byte())
    again = Counts.from_numpy(counts.confusion, counts.num_images)
    assert np.array_equal(again.confusion, counts.confusion)
    assert again.num_images == 1
    assert compute_tp_fp_fn(again.confusion).sum() == 1 + 2
