"""Start-up time of commands, and of `predict` on one image beside a plain torch script.

    python benchmarks/startup.py RUN IMAGE [--rounds 7]

The plain script builds the same network, loads its weights and writes the mask.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from atrous.timing import measure_times_s

PLAIN = """
import json, sys
import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from atrous.models.zoo import build_model

weights, image, out = sys.argv[1:]
with safe_open(weights, "pt") as file:
    card = json.loads(file.metadata()["atrous"])
    tensors = {name: file.get_tensor(name) for name in file.keys()}
model = build_model(card["name"], **card["options"]).eval()
model.load_state_dict(tensors)
pixels = torch.from_numpy(np.array(Image.open(image).convert("RGB"))).permute(2, 0, 1)
mean, std = (torch.tensor(card[name]).view(3, 1, 1) for name in ("mean", "std"))
with torch.inference_mode():
    logits = model(((pixels / 255 - mean) / std)[None])
Image.fromarray(logits[0].argmax(0).to(torch.uint8).numpy()).save(out)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("image", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        atrous = [sys.executable, "-m", "atrous"]
        plain = ["-c", PLAIN, arguments.run / "best.safetensors", arguments.image]
        predict = ["predict", arguments.run, arguments.image, "--save", "mask", "--window", "0"]
        commands = {
            "atrous --help": [*atrous, "--help"],
            "atrous models": [*atrous, "models"],
            "plain script": [sys.executable, *plain, Path(folder, "mask.png")],
            "atrous predict": [*atrous, *predict, "--out", folder],
        }
        calls = [
            partial(subprocess.run, command, check=True, capture_output=True)
            for command in commands.values()
        ]
        times_s = measure_times_s(calls, min_rounds=arguments.rounds, max_rounds=arguments.rounds)
    medians = dict(zip(commands, map(statistics.median, times_s), strict=True))
    for name, median in medians.items():
        print(f"{name:16}{median:6.2f} s")
    print(f"predict / plain {medians['atrous predict'] / medians['plain script']:6.2f}x")


if __name__ == "__main__":
    main()
