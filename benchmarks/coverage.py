"""Coverage of the intervals of `atrous compare`, by simulation.

    python benchmarks/coverage.py

Two synthetic populations of images with two runs each: `street` has 6 classes of which most are in
every image, as in CamVid; `objects` has a background and 20 classes in 3 to 16 % of the images, as
in VOC. Intervals are computed for samples of each. Takes about two minutes.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from atrous.evaluation.bootstrap import Estimate, compute_difference, compute_estimate, resample
from atrous.evaluation.metrics import compute_miou

Counts = npt.NDArray[np.int64]
NUM_POPULATION = 50_000


def draw_street(generator: np.random.Generator) -> list[Counts]:
    occurrence = np.linspace(1, 0.3, 6)
    return draw(generator, occurrence, mean=np.linspace(8, 5, 6), spread=1.0, difficulty=0.8)


def draw_objects(generator: np.random.Generator) -> list[Counts]:
    occurrence = np.concatenate(([1.0], np.linspace(0.16, 0.03, 20)))
    mean = np.concatenate(([11.7], np.full(20, 10.0)))
    return draw(generator, occurrence, mean=mean, spread=1.2, difficulty=1.3)


def draw(
    generator: np.random.Generator,
    occurrence: npt.NDArray[np.float64],
    *,
    mean: npt.NDArray[np.float64],
    spread: float,
    difficulty: float,
) -> list[Counts]:
    """Draw counts of two runs on the same masks, the second a little better."""
    shape = NUM_POPULATION, len(occurrence)
    occurs = generator.random(shape) < occurrence
    pixels = np.where(occurs, generator.lognormal(mean, spread, shape), 0).astype(np.int64)
    hard = generator.normal(0, difficulty, (NUM_POPULATION, 1))
    runs = []
    for lead in (0.0, 0.1):
        skill = np.linspace(2, 0.5, shape[1]) + lead + generator.normal(0, 0.5, shape)
        tp = generator.binomial(pixels, 1 / (1 + np.exp(hard - skill)))
        fn = pixels - tp
        shares = generator.dirichlet(np.full(shape[1], 0.3), NUM_POPULATION)
        fp = np.round(fn.sum(axis=1, keepdims=True) * shares).astype(np.int64)
        runs.append(np.stack((tp, fp, fn), axis=-1))
    return runs


def compute_bca(
    value: float, drawn: npt.NDArray[np.float64], without: npt.NDArray[np.float64]
) -> Estimate:
    """Return the bias-corrected and accelerated interval.

    Args:
        value: The difference on all images.
        drawn: The difference on each resample.
        without: The difference on all images but one, for each image.

    Source: Efron 1987, doi:10.1080/01621459.1987.10478410.
    """
    bias = ndtri((np.sum(drawn < value) + 0.5) / (len(drawn) + 1))
    skewed = without.mean() - without
    acceleration = (skewed**3).sum() / (6 * (skewed**2).sum() ** 1.5)
    z = bias + ndtri([0.025, 0.975])
    low, high = np.quantile(drawn, ndtr(bias + z / (1 - acceleration * z)))
    return Estimate(value, low, high)


def holds(estimate: Estimate, value: float) -> bool:
    return (
        estimate.low is not None
        and estimate.high is not None
        and estimate.low <= value <= estimate.high
    )


def measure(
    population: list[Counts], num_images: int, num_samples: int, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the coverage of three intervals: of one run, of the difference, and by BCa."""
    true = [float(compute_miou(counts.sum(axis=0))) for counts in population]
    hits = np.zeros(3)
    for seed in range(num_samples):
        picked = generator.integers(NUM_POPULATION, size=num_images)
        sample = [counts[picked] for counts in population]
        drawn = resample(sample, num_resamples=1000, seed=seed).miou
        totals = [counts.sum(axis=0) for counts in sample]
        first, other = (float(compute_miou(total)) for total in totals)
        one = compute_estimate(first, drawn[0], num_images)
        difference = compute_difference(other - first, drawn[1] - drawn[0], num_images)
        without = [
            compute_miou(total - counts) for total, counts in zip(totals, sample, strict=True)
        ]
        bca = compute_bca(other - first, drawn[1] - drawn[0], without[1] - without[0])
        gap = true[1] - true[0]
        hits += holds(one, true[0]), holds(difference, gap), holds(bca, gap)
    return hits / num_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=600)
    num_samples = parser.parse_args().samples
    populations: dict[str, Callable[[np.random.Generator], list[Counts]]] = {
        "street": draw_street,
        "objects": draw_objects,
    }
    print("population    images  one run  difference  by BCa")
    for name, draw_population in populations.items():
        generator = np.random.default_rng(0)
        population = draw_population(generator)
        for num_images in (5, 10, 20, 50, 100, 325, 1449):
            one, difference, bca = measure(population, num_images, num_samples, generator)
            print(
                f"{name:<11} {num_images:>8}  {one:7.3f}  {difference:10.3f}  {bca:6.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
