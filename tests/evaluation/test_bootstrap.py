"""Intervals: a brute-force loop, coverage by simulation, few images, several comparisons."""

import numpy as np
import pytest

from atrous.errors import ConfigError
from atrous.evaluation import bootstrap
from atrous.evaluation.bootstrap import (
    Difference,
    compute_bias_ratio,
    compute_difference,
    compute_estimate,
    compute_ious,
    holm,
    resample,
)
from atrous.evaluation.metrics import compute_miou


def random_counts(generator, num_images, num_classes=4, rarest=0.2):
    """Counts of two runs on the same masks; the last class is in few of them."""
    shape = num_images, num_classes
    occurs = generator.random(shape) < np.linspace(1, rarest, num_classes)
    pixels = np.where(occurs, generator.lognormal(7, 1, shape), 0).astype(np.int64)
    difficulty = generator.normal(0, 0.8, (num_images, 1))
    runs = []
    for skill in (1.0, 1.15):
        noise = generator.normal(0, 0.5, shape)
        tp = generator.binomial(pixels, 1 / (1 + np.exp(difficulty + noise - skill)))
        fn = pixels - tp
        fp = generator.multinomial(fn.sum(axis=1), np.full(num_classes, 1 / num_classes))
        runs.append(np.stack((tp, fp, fn), axis=-1))
    return runs


def test_every_draw_is_scored_like_a_loop_over_its_images():
    runs = random_counts(np.random.default_rng(0), num_images=5, rarest=0.1)
    drawn = resample(runs, num_resamples=1000, seed=3)
    choices = np.random.default_rng(3).integers(5, size=(1000, 5))
    num_absent = 0
    for index, choice in enumerate(choices):
        for run, counts in enumerate(runs):
            ious = []
            for number in range(4):
                tp, fp, fn = (
                    sum(int(counts[image, number, i]) for image in choice) for i in range(3)
                )
                present = tp + fn > 0
                num_absent += not present
                ious += [tp / (tp + fp + fn)] if present else []
                if present:
                    assert drawn.iou[run, index, number] == pytest.approx(ious[-1])
                else:
                    assert np.isnan(drawn.iou[run, index, number])
            assert drawn.miou[run, index] == pytest.approx(sum(ious) / len(ious))
    assert num_absent, "the case of an absent class was not met"


def test_what_is_in_memory_at_a_time_changes_no_number(monkeypatch):
    runs = random_counts(np.random.default_rng(0), num_images=7)
    whole = resample(runs, num_resamples=1000)
    monkeypatch.setattr(bootstrap, "_CHUNK_SIZE", 50)
    parts = resample(runs, num_resamples=1000)
    assert np.array_equal(whole.miou, parts.miou)
    assert np.array_equal(whole.iou, parts.iou, equal_nan=True)
    assert not np.array_equal(whole.miou, resample(runs, num_resamples=1000, seed=1).miou)


def test_nominal_95_percent_covers_the_truth_as_often_as_promised():
    generator = np.random.default_rng(0)
    population = random_counts(generator, num_images=20_000, num_classes=6)
    true = [float(compute_miou(counts.sum(axis=0))) for counts in population]
    num_images, num_samples = 150, 1000
    hits = np.zeros(2)
    for seed in range(num_samples):
        picked = generator.integers(len(population[0]), size=num_images)
        sample = [counts[picked] for counts in population]
        drawn = resample(sample, num_resamples=1000, seed=seed).miou
        first, other = (float(compute_miou(counts.sum(axis=0))) for counts in sample)
        one = compute_estimate(first, drawn[0], num_images)
        difference = compute_difference(other - first, drawn[1] - drawn[0], num_images)
        hits += (
            one.low <= true[0] <= one.high,
            difference.low <= true[1] - true[0] <= difference.high,
        )
    assert 0.92 <= hits[0] / num_samples <= 0.98, "of one run"
    assert 0.92 <= hits[1] / num_samples <= 0.98, "of the difference"


def test_among_many_classes_without_a_difference_rarely_any_is_called_significant():
    generator = np.random.default_rng(1)
    num_alarms, num_tries, num_classes = 0, 100, 12
    for seed in range(num_tries):
        # Chance says for each image which run has which of the two predictions.
        one, other = random_counts(generator, num_images=60, num_classes=num_classes, rarest=0.05)
        swap = generator.random(60) < 0.5
        runs = np.where(swap[:, None, None], other, one), np.where(swap[:, None, None], one, other)
        drawn = resample(runs, num_resamples=1000, seed=seed).iou
        values = compute_ious(runs[1].sum(axis=0)) - compute_ious(runs[0].sum(axis=0))
        num_images = runs[0][..., [0, 2]].any(axis=-1).sum(axis=0)
        num_alarms += any(
            holm(
                [
                    compute_difference(value, column, int(number)) if number else None
                    for value, column, number in zip(
                        values, (drawn[1] - drawn[0]).T, num_images, strict=True
                    )
                ]
            )
        )
    assert num_alarms / num_tries <= 0.1  # 0.05 and two standard deviations


def test_a_run_held_against_itself_differs_by_nothing():
    counts, _ = random_counts(np.random.default_rng(0), num_images=30)
    drawn = resample([counts, counts], num_resamples=1000).miou
    assert compute_difference(0.0, drawn[1] - drawn[0], 30) == Difference(0.0, 0.0, 0.0, 0.5)


@pytest.mark.parametrize("num_images", [5, 12, 100])
def test_interval_and_probability_agree_on_where_0_lies(num_images):
    drawn = np.random.default_rng(0).normal(0, 1, 20_001)
    for shift in np.linspace(-4, 4, 41):
        difference = compute_difference(shift, drawn + shift, num_images)
        assert (difference.low > 0 or difference.high < 0) == (difference.p_value < 0.05)
        assert 0 < difference.probability_above_0 < 1
        assert (difference.probability_above_0 > 0.5) == (np.median(drawn + shift) > 0)


def test_fewer_images_widen_an_interval_and_four_have_none():
    drawn = np.random.default_rng(0).normal(0.5, 0.01, 10_000)
    widths = [
        estimate.high - estimate.low
        for estimate in (compute_estimate(0.5, drawn, number) for number in (5, 6, 10, 1000))
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 1.96 * 0.01, rel=0.03)
    assert compute_estimate(0.5, drawn, 4).low is None
    assert compute_difference(0.5, drawn, 4) == Difference(0.5, None, None, None)
    assert compute_difference(0.5, drawn, 4).p_value == 1


def test_the_bias_of_the_resamples_is_removed_from_an_interval():
    drawn = np.random.default_rng(0).normal(0.48, 0.01, 10_000)
    estimate = compute_estimate(0.5, drawn, 1000)
    assert (estimate.low + estimate.high) / 2 == pytest.approx(0.5, abs=1e-3)
    assert compute_bias_ratio(0.5, drawn) == pytest.approx(2, rel=0.05)
    assert compute_bias_ratio(0.5, np.full(100, 0.5)) == 0
    perfect = compute_estimate(1.0, np.full(100, 1.0), 10)
    assert (perfect.low, perfect.high) == (1, 1)


@pytest.mark.parametrize(
    ("p_values", "significant"),
    [
        ([0.01], [True]),
        ([0.04, 0.01, 0.03], [False, True, False]),  # 3 × 0.01, then 2 × 0.03 stops it
        ([0.02, 0.01, 0.001], [True, True, True]),
        ([0.03, 0.03], [False, False]),
        ([0.06, None, 0.024], [False, False, True]),  # None was not asked
        ([0.01, None, None], [True, False, False]),
        ([], []),
    ],
)
def test_significant_is_what_holms_correction_leaves(p_values, significant):
    differences = [
        None if p_value is None else Difference(0.1, 0.0, 0.2, 1 - p_value / 2)
        for p_value in p_values
    ]
    assert holm(differences) == significant


def test_too_few_draws_are_refused():
    counts, _ = random_counts(np.random.default_rng(0), num_images=3)
    with pytest.raises(ConfigError, match="999 resamples are too few"):
        resample([counts], num_resamples=999)
