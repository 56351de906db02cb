"""Time of the parts of an evaluation: network, counts, and optional scores.

    python benchmarks/evaluation.py RUN

Each part is timed on every image of the run's validation split.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

from atrous.data import build_eval_loader
from atrous.devices import resolve_device
from atrous.engines import TorchEngine
from atrous.engines.logits import compute_mask
from atrous.evaluation import Counts
from atrous.evaluation.boundary import BoundaryCounts
from atrous.evaluation.confidence import ConfidenceCounts
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.objects import ObjectCounts
from atrous.models import load_model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--precision", default="bf16")
    arguments = parser.parse_args()
    engine = TorchEngine(
        load_model(arguments.run, device=resolve_device("auto")), precision=arguments.precision
    )
    dataset = open_run_data(arguments.run, None, None, "auto", None)
    num_classes = len(dataset.classes)
    counts, confidence = Counts(num_classes), ConfidenceCounts(num_classes)
    boundary, objects = BoundaryCounts(num_classes), ObjectCounts()
    times_s: dict[str, float] = defaultdict(float)

    def timed(part, function, *arguments):
        start_s = time.perf_counter()
        result = function(*arguments)
        times_s[part] += time.perf_counter() - start_s
        return result

    samples = build_eval_loader(dataset, workers=0)
    for _ in range(len(dataset)):
        sample = timed("reading", next, samples)
        logits = timed("network", engine.compute_logits, sample.image)
        prediction = timed("argmax", compute_mask, logits)
        timed("counts", counts.update, prediction, sample.mask)
        timed("confidence", confidence.update, logits, prediction, sample.mask)
        timed("boundary", boundary.update, prediction, sample.mask)
        timed("objects", objects.update, prediction, sample.mask)
    evaluation_s = sum(times_s[part] for part in ("reading", "network", "argmax", "counts"))
    print(f"{'part':12}{'ms / image':>14}{'share of reading + network + argmax + counts':>48}")
    for part, seconds in times_s.items():
        print(f"{part:12}{1000 * seconds / len(dataset):14.1f}{seconds / evaluation_s:48.1%}")


if __name__ == "__main__":
    main()
