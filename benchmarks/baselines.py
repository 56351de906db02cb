"""The mIoU of `atrous evaluate --json` over some classes, beside that of a constant prediction.

python benchmarks/baselines.py SCORES.json [--classes 0,8,10]
"""

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--classes", help="average over these class indices only")
    args = parser.parse_args()
    rows = json.loads(args.scores.read_text(encoding="utf-8"))["per_class"]
    present = [row for row in rows if row["pixels"]]
    chosen = {int(index) for index in args.classes.split(",")} if args.classes else None
    chosen_rows = [row for row in present if chosen is None or row["index"] in chosen]
    miou = sum(row["iou"] for row in chosen_rows) / len(chosen_rows)
    total = sum(row["pixels"] for row in present)
    largest = max(present, key=lambda row: row["pixels"])
    constant_iou = largest["pixels"] / total if largest in chosen_rows else 0.0
    print(f"mIoU of the model over {len(chosen_rows)} classes: {miou:.4f}")
    print(f"mIoU of '{largest['name']}' everywhere: {constant_iou / len(chosen_rows):.4f}")


if __name__ == "__main__":
    main()
