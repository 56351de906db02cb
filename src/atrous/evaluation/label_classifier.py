"""The classifier that tells parts of planted label errors from parts of the labels as given."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from atrous.evaluation.label_parts import FloatRows

ASSUMED_SHARE = 0.05
"""Share of wrong regions that the score assumes."""

PLANTED_SHARE = 0.25
"""Share of the regions of a copy in which errors are planted."""

_MAX_ROWS = 20_000
_MAX_DEVIATIONS = 4.0
_RIDGE = 10.0


def fit_ranking(
    given: FloatRows, planted: FloatRows, num_copies: int
) -> Callable[[FloatRows], FloatRows]:
    """Fit a classifier of parts, and return the function that scores them.

    Given parts that look planted are probably wrong labels: they are left out of a second fit. The
    scores assume that `ASSUMED_SHARE` of the regions are wrong.

    Args:
        given, planted: Numbers of the parts.
        num_copies: Number of copies of the masks with planted errors.

    Shapes:
        given, planted: float (rows, numbers)
    """
    rng = np.random.default_rng(0)
    given, planted = (
        rows if len(rows) <= _MAX_ROWS else rng.choice(rows, _MAX_ROWS, replace=False)
        for rows in (given, planted)
    )
    is_planted = _fit_logistic(given, planted, num_copies)
    is_planted = _fit_logistic(given[is_planted(given) < 0], planted, num_copies)
    shift = np.log(ASSUMED_SHARE / PLANTED_SHARE)
    return lambda rows: expit(is_planted(rows) + shift)


def _fit_logistic(
    given: FloatRows, planted: FloatRows, given_weight: float
) -> Callable[[FloatRows], FloatRows]:
    """Fit a logistic regression with squares and products; return the function of its logits.

    Shapes:
        given, planted: float (rows, numbers)
    """
    rows = np.concatenate((given, planted))
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    first, second = np.triu_indices(rows.shape[1])

    def expand(values: FloatRows) -> FloatRows:
        linear = np.clip((values - mean) / scale, -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        ones = np.ones((len(linear), 1))
        return np.concatenate((ones, linear, linear[:, first] * linear[:, second]), axis=1)

    features = expand(rows)
    is_planted = np.repeat((0.0, 1.0), (len(given), len(planted)))
    importance = np.where(is_planted > 0, 1.0, given_weight)

    def compute_loss(weights: FloatRows) -> tuple[float, FloatRows]:
        logits = features @ weights
        loss = importance * (np.logaddexp(0, logits) - is_planted * logits)
        slope = features.T @ (importance * (expit(logits) - is_planted))
        penalty = np.concatenate(([0.0], weights[1:]))
        return loss.sum() + _RIDGE / 2 * penalty @ penalty, slope + _RIDGE * penalty

    best = minimize(compute_loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B")
    return lambda values: expand(values) @ best.x
