"""The precision of a training step, and the normalization of the model's card."""

import pytest
import torch
from torch import nn

from atrous.classes import build_classes
from atrous.data import open_dataset
from atrous.recipe import build_recipe
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
