"""A training step computes in the precision of the recipe."""

import pytest
import torch
from torch import nn

from atrous.data import open_dataset
from atrous.training.batches import load_batches
from atrous.training.learner import Learner


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
