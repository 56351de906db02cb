"""Time and peak memory of `atrous import` on a made COCO dataset without a validation split.

    python benchmarks/import.py [FOLDER] [--images 5000] [--objects 36000]

The images, JPEGs of 640 × 480, are written once to FOLDER. Polygons have 4 to 80 corners, as those
of COCO, whose mean is 30. Each round imports into a new folder in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 480, 640
NUM_CLASSES = 80


def write_image(path: Path, rng: np.random.Generator) -> None:
    cells = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    cells.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)


def draw_polygon(rng: np.random.Generator) -> list[float]:
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.gamma(2.0, 13.0)) % 77 + 4))
    radii = rng.uniform(0.6, 1, len(angles)) * rng.gamma(2.0, 30.0)
    points = (
        rng.uniform(0, (WIDTH, HEIGHT))
        + radii[:, None] * np.array([np.cos(angles), np.sin(angles)]).T
    )
    return np.clip(points, 0, (WIDTH, HEIGHT)).round(2).ravel().tolist()


def write_source(folder: Path, num_images: int, num_objects: int) -> Path:
    source = folder / f"coco-{num_images}-{num_objects}"
    if (source / "instances.json").is_file():
        return source
    rng = np.random.default_rng(0)
    (source / "images").mkdir(parents=True, exist_ok=True)
    names = [f"{number:012}.jpg" for number in range(num_images)]
    for name in names:
        write_image(source / "images" / name, rng)
    content = {
        "images": [
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for number, name in enumerate(names)
        ],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, NUM_CLASSES + 1)],
        "annotations": [
            {
                "id": number,
                "image_id": int(rng.integers(num_images)),
                "category_id": int(rng.integers(1, NUM_CLASSES + 1)),
                "segmentation": [draw_polygon(rng)],
                "iscrowd": 0,
            }
            for number in range(num_objects)
        ],
    }
    (source / "instances.json").write_text(json.dumps(content))
    return source


def measure(source: Path) -> tuple[float, float, float]:
    """Return the time and the CPU time in seconds, and the peak memory in MiB of one import."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        command = [sys.executable, "-m", "atrous", "import", source, Path(folder, "out")]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        time_s = time.perf_counter() - start
    if status:
        raise SystemExit("The import failed.")
    scale = 1 if sys.platform == "darwin" else 1024
    return time_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data/import-benchmark"))
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=36000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    source = write_source(arguments.folder, arguments.images, arguments.objects)
    size_mib = (source / "instances.json").stat().st_size / 2**20
    print(f"{arguments.images} images, {arguments.objects} polygons, JSON of {size_mib:.0f} MiB")
    for _ in range(arguments.rounds):
        load = os.getloadavg()[0]
        time_s, cpu_s, peak_mib = measure(source)
        print(
            f"{time_s:6.1f} s  {cpu_s:6.1f} s of CPU  {peak_mib:6.0f} MiB  "
            f"(load before: {load:.1f})"
        )


if __name__ == "__main__":
    main()
