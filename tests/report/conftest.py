"""Runs made by hand: tiny images, a real small model, an evaluation with every part."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.classes import build_classes
from atrous.evaluation import evaluate
from atrous.models import ModelCard, build_model, save_weights

NAMES = ["red", "green", "blue"]
NUM_IMAGES = 7


def write_data(root, num_images=NUM_IMAGES):
    """Images in three colours, each with more noise than the one before it."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / "val" / part).mkdir(parents=True)
    (root / "classes.toml").write_text('names = ["red", "green", "blue"]\nignore_index = 9\n')
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    for index in range(num_images):
        true = np.repeat(np.arange(3, dtype=np.uint8), 16)[:, None].repeat(64, axis=1)
        noise = random.integers(0, 1 + 30 * index, (48, 64, 3))
        seen = np.clip(colors[true] + noise, 0, 255).astype(np.uint8)
        true[:, :3] = 9
        Image.fromarray(seen).save(root / "val" / "images" / f"image{index}.png")
        Image.fromarray(true).save(root / "val" / "masks" / f"image{index}.png")
    return root


def write_log(path, *, num_steps=40, starts=(0,), ending="finished", bad_steps=(), validates=True):
    records = []
    for step in range(num_steps + 1):
        if step in starts:
            machine = {
                "atrous": "9.8.7",
                "torch": "2.x",
                "machine": "Testnix-6.1-fc-arm64-with-glibc2.36",
                "threads": 3,
            }
            records.append({"kind": "session", "event": "start", "step": step, **machine})
        if step:
            loss = float("nan") if step in bad_steps else 1 / step
            facts = {"step": step, "epoch": step / 10, "loss": loss}
            records.append({"kind": "train", **facts, "lr": 1e-3, "step_s": 0.5})
            if validates and step % 10 == 0:
                records.append({"kind": "val", **facts, "miou": step / 100, "val_s": 2.0})
    if ending:
        end = {"kind": "session", "event": "end", "step": num_steps, "reason": ending}
        records.append(end)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def add_new_parts(scores):
    """What an evaluation may hold beside scores."""
    num_classes = len(scores["per_class"])
    return {
        **scores,
        "confusion": [
            [80 if row == column else 10 + row for column in range(num_classes)]
            for row in range(num_classes)
        ],
        "conventions": [
            {
                "key": "image-macro",
                "rule": "mean over images",
                "reported_by": "somebody",
                "iou": 0.4321,
                "precision": 0.5,
                "recall": 0.5,
                "f1": 0.5,
            }
        ],
        "confidence": {
            "ece": 0.0456,
            "temperature": 1.5,
            "bins": [
                {"low": 0.0, "high": 0.5, "pixels": 0, "confidence": None, "accuracy": None},
                {"low": 0.5, "high": 1.0, "pixels": 9, "confidence": 0.8, "accuracy": 0.7},
            ],
            "risk_coverage": [
                {"coverage": 1.0, "miou": 0.5, "pixel_accuracy": 0.6},
                {"coverage": 0.5, "miou": 0.777, "pixel_accuracy": 0.8},
            ],
        },
        "boundary": {
            "boundary_iou": 0.3141,
            "boundary_iou_per_class": [0.3] * num_classes,
            "dilation_ratio": 0.02,
            "bf_score": 0.2718,
            "bf_tolerance_ratio": 0.0075,
            "trimap": [{"width_px": 3, "miou": 0.1618}, {"width_px": 9, "miou": None}],
        },
        "objects": [{"area": "small", "num_objects": 12, "recall": 0.5, "found": 0.4}],
    }


@pytest.fixture(scope="session")
def made_run(tmp_path_factory):
    """An evaluated run in a folder of its own; copy it before changing it."""
    base = tmp_path_factory.mktemp("made")
    data, run = write_data(base / "data"), base / "tiny"
    run.mkdir()
    torch.manual_seed(0)
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=3)
    classes = build_classes(NAMES, [[255, 0, 0], [0, 255, 0], [0, 0, 0]])
    card = ModelCard(
        model.name, model.options, classes, (0.5,) * 3, (0.25,) * 3, (32, 32), {"step": 40}
    )
    save_weights(run / "best.safetensors", model, card)
    (run / "recipe.toml").write_text(
        "# words of the recipe\n"
        '[model]\nname = "deeplabv3_mobilenet_v3_large"\n'
        f"[data]\nroot = '{data}'\nsize = 32\n[train]\nbatch_size = 8\n"
    )
    write_log(run / "log.jsonl", starts=(0, 15))
    evaluate(run, device="cpu")
    scores_path = run / "evaluation" / "val.json"
    scores = json.loads(scores_path.read_text())
    plan = {
        "train_fingerprint": "abcdef0123456789abcdef",
        "val_fingerprint": scores["data_fingerprint"],
        "num_train": 5,
        "num_val": NUM_IMAGES,
        "total_steps": 40,
        "steps_per_epoch": 10.0,
    }
    (run / "plan.json").write_text(json.dumps(plan))
    scores_path.write_text(json.dumps(add_new_parts(scores)))
    return run


@pytest.fixture
def run(made_run, tmp_path):
    """A copy of the run, to change at will; its data stays where it is."""
    folder = tmp_path / "tiny"
    (folder / "evaluation").mkdir(parents=True)
    for path in made_run.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(made_run)).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def change_scores(run):
    """Rewrite the evaluation of the run by a function of its content."""
    path = run / "evaluation" / "val.json"
    return lambda change: path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.fixture
def change_log(run):
    """Write another log for the run; see `write_log`."""
    return lambda **log: write_log(run / "log.jsonl", **log)
