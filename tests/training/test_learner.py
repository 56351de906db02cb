"""Precision and compilation of a training step, and the normalization of the model's card."""

import pytest
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from atrous import devices
from atrous.classes import build_classes
from atrous.data import open_dataset
from atrous.devices import resolve_workers
from atrous.errors import ConfigError
from atrous.recipe import TrainRecipe, build_recipe
from atrous.training import speed
from atrous.training.batches import load_batches
from atrous.training.learner import Learner, build_segmenter


@pytest.mark.parametrize(("precision", "dtype"), [("32", torch.float32), ("bf16", torch.bfloat16)])
def test_convolutions_compute_in_the_precision_of_the_recipe(make_recipe, shapes, precision, dtype):
    recipe, dataset = make_recipe(train__precision=precision), open_dataset(shapes, "train")
    learner = Learner(recipe, dataset.classes, None)
    seen = set()
    for module in learner.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    learner.update(load_batches(recipe, dataset, first_step=0, num_steps=1), step=0, lr=0.01)
    assert seen == {dtype}
    assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}


def test_the_card_has_the_normalization_of_the_backbone():
    recipe = build_recipe({"model": {"name": "fcn_efficientnet_lite0"}})
    card = build_segmenter(recipe, build_classes(["a", "b"])).card
    assert (card.mean, card.std) == ((127 / 255,) * 3, (128 / 255,) * 3)


def test_only_training_steps_are_compiled(make_recipe, shapes, monkeypatch):
    calls = []

    def compile_stub(function, *, dynamic):
        def compiled(image, **options):
            calls.append(tuple(image.shape))
            if len(calls) > 1:
                raise TorchDynamoException("no compiler")
            return function(image, **options)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_stub)
    recipe, dataset = make_recipe(), open_dataset(shapes, "train")
    learner = Learner(recipe, dataset.classes, None, compile=True)
    batches = load_batches(recipe, dataset, first_step=0, num_steps=2)
    learner.update(batches, step=0, lr=0.01)
    learner.validate(open_dataset(shapes, "val"), lambda done, total: None)
    assert len(calls) == 1
    with pytest.raises(ConfigError, match=r"no compiler .* train\.compile=off"):
        learner.update(batches, step=1, lr=0.01)


@pytest.mark.parametrize(
    ("compile", "device", "duration", "expected"),
    [
        ("on", "cpu", "1it", True),
        ("off", "cuda", "20h", False),
        ("auto", "cpu", "20h", False),
        ("auto", "cuda", "4999it", False),
        ("auto", "cuda", "50ep", True),
        ("auto", "cuda", "5min", False),
        ("auto", "cuda", "20min", True),
    ],
)
def test_long_runs_on_a_gpu_are_compiled(monkeypatch, compile, device, duration, expected):
    monkeypatch.setattr(speed, "resolve_device", torch.device)
    for name in ("which", "find_spec"):
        monkeypatch.setattr(speed, name, lambda name: True)
    settings = TrainRecipe(compile=compile, device=device, duration=duration)
    assert speed.should_compile(settings, steps_per_epoch=100) == expected


def test_loading_processes_follow_the_cores_of_a_machine_with_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "count_cores", lambda: 13)
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert resolve_workers("auto", cpu) == 2
    assert [resolve_workers("auto", gpu, num) for num in (1, 4, 16)] == [12, 3, 1]
    assert resolve_workers(0, gpu) == 0
