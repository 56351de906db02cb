"""The mIoU of an evaluated run and its 95 % interval: python benchmarks/interval.py RUN

`atrous compare` gives the intervals of several runs and of their differences.
"""

import sys
from pathlib import Path

from atrous.evaluation.bootstrap import compute_estimate, resample
from atrous.evaluation.run_reader import load_evaluated_runs


def main(folder: Path) -> None:
    (run,) = load_evaluated_runs([folder])
    resampled = resample([run.images.counts]).miou[0]
    estimate = compute_estimate(run.miou, resampled, run.num_labelled_images)
    print(f"mIoU {estimate.format_value()}, 95 % interval {estimate.format_interval()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
