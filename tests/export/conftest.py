"""A small run with a dataset, and its exports."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from atrous.data import open_dataset
from atrous.data.shapes import write_shapes
from atrous.export import export_model
from atrous.models import ModelCard, build_model, load_model, save_weights

PACKAGES = {
    "onnx": ["onnxscript", "onnxruntime"],
    "openvino": ["onnxscript", "openvino"],
    "pt2": [],
    "onnx-int8": ["onnxscript", "onnxruntime", "nncf"],
    "openvino-int8": ["onnxscript", "openvino", "nncf"],
}


def _need(target: str) -> None:
    for package in PACKAGES[target]:
        pytest.importorskip(package, reason=f"exports to {target} need {package}")


@pytest.fixture(scope="session")
def need():
    """Skip the test where a package that a target needs is not installed."""
    return _need


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_shapes(root, num_train=4, num_val=3, size_px=64)
    return root


def _build_run(folder: Path, data: Path) -> Path:
    """Write a run with random weights whose predictions are confident, as after training."""
    torch.manual_seed(0)
    classes = open_dataset(data, "val").classes
    model = build_model(
        "deeplabv3plus_resnet18", num_classes=len(classes), decoder_channels=8, output_stride=16
    ).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_(0, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1)
    nn.init.normal_(model.head.classifier.weight)
    card = ModelCard(
        model.name, model.options, classes, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), None,
        {"step": 7}, temperature=1.5,
    )  # fmt: skip
    folder.mkdir(parents=True)
    save_weights(folder / "best.safetensors", model, card)
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory, data) -> Path:
    return _build_run(tmp_path_factory.mktemp("runs") / "run", data)


@pytest.fixture
def new_run(tmp_path, data) -> Path:
    """A run of the same weights, which a test may change."""
    return _build_run(tmp_path / "runs" / "new", data)


@pytest.fixture(scope="session")
def model(run):
    return load_model(run)


@pytest.fixture(scope="session")
def exported(run, data):
    """Export the run to a target, once for all tests."""

    @cache
    def call(target: str):
        _need(target)
        return export_model(run, target, data=data, num_calibration_images=4)

    return call
