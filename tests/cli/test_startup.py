"""A command imports what it uses: the rest would be seconds before anything is seen."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from atrous.classes import build_classes
from atrous.models import ModelCard, build_model, save_weights

HEAVY = {"torch", "torchvision", "torch._dynamo", "sympy", "matplotlib", "scipy"}
SCRIPT = """
import sys
try:
    from atrous.cli.main import run
    run()
finally:
    print("IMPORTED", *sys.modules)
"""


def run_command(*arguments):
    """Run the command and return what it prints and which heavy packages it has imported."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    output, found, imported = done.stdout.partition("IMPORTED ")
    assert found, done.stderr
    return output, HEAVY.intersection(imported.split())


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--help"], "verify-resume"),
        (["predict", "--help"], "--flip"),
        (["models"], "deeplabv3plus_xception65"),
    ],
)
def test_help_and_the_table_of_models_import_nothing_heavy(arguments, answer):
    output, heavy = run_command(*arguments)
    assert answer in output
    assert not heavy


def test_check_imports_torch_for_jpegs_alone(tmp_path):
    for split, kind in itertools.product(("train", "val"), ("images", "masks")):
        (tmp_path / split / kind).mkdir(parents=True)
        for index in range(2):
            pixels = np.full((64, 64), 1 + index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / kind / f"{index}.png")
    output, heavy = run_command("check", tmp_path, "--workers", 1)
    assert "4 pairs" in " ".join(output.split())
    assert heavy == {"scipy"}


def test_predict_imports_torch_alone(tmp_path):
    options = {"num_classes": 3, "output_stride": 16}
    model = build_model("deeplabv3plus_resnet18", **options)
    classes = build_classes(["a", "b", "c"], [[0, 0, 0], [255, 0, 0], [0, 255, 0]])
    card = ModelCard(
        model.name, model.options, classes, (0.0,) * 3, (1.0,) * 3, size_hw=None, training={}
    )
    save_weights(tmp_path / "model.safetensors", model, card)
    Image.new("RGB", (64, 48)).save(tmp_path / "image.png")
    arguments = (tmp_path / "model.safetensors", tmp_path / "image.png", "--save", "mask")
    _, heavy = run_command("predict", *arguments, "--out", tmp_path / "out")
    assert (tmp_path / "out/image.png").exists()
    assert heavy == {"torch"}
