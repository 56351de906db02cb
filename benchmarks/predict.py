"""Speed of `predict` with and without parallel reading and writing, in turns.

    python benchmarks/predict.py RUN FOLDER [--rounds 3] [--save mask,overlay] [--json FILE]

Also prints the time of the network alone on the same images, which is a lower bound.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from atrous.data.pairs import list_image_files
from atrous.devices import resolve_device
from atrous.engines import TorchEngine
from atrous.images import read_image
from atrous.models import load_model
from atrous.prediction import compute_prediction, predict
from atrous.timing import measure_times_s


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", default="mask,overlay")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = load_model(arguments.run, device=resolve_device("auto"))
    engine = TorchEngine(model, precision=arguments.precision)
    paths = list_image_files(arguments.folder)[: arguments.max_images]
    images = [read_image(path) for path in paths]

    def run_network():
        for image in images:
            compute_prediction(engine, image)

    def run_predict(ahead):
        with tempfile.TemporaryDirectory() as out:
            save, precision = arguments.save.split(","), arguments.precision
            predict(model, paths, out, save=save, precision=precision, ahead=ahead)

    variants = {
        "network alone": run_network,
        "sequential": lambda: run_predict(0),
        "parallel": lambda: run_predict(4),
    }
    times_s = measure_times_s(
        list(variants.values()), min_rounds=arguments.rounds, max_rounds=arguments.rounds
    )
    seconds = dict(zip(variants, times_s, strict=True))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{len(images)} images, {model.name}, {engine.device}, {arguments.save}")
    for name, median in medians.items():
        print(f"{name:22}{1000 * median / len(images):8.1f} ms/image")
    print(f"speedup {medians['sequential'] / medians['parallel']:.2f}x")
    if arguments.json:
        content = {"images": len(images), "median_s": medians, "all_s": seconds}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
