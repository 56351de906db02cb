"""A model whose output is known: the class whose colour is nearest to the pixel's."""

import pytest
import torch
from torch import nn

from atrous.classes import build_classes
from atrous.models import ModelCard, Segmenter

COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.fixture
def color_model():
    """Pointwise, so that flips and windows must not change what it says."""
    palette = torch.tensor(COLORS) / 255
    head = nn.Conv2d(3, 3, 1)
    head.load_state_dict({"weight": 2 * palette[:, :, None, None], "bias": -(palette**2).sum(1)})
    options = {"num_classes": 3, "output_stride": 1}
    model = Segmenter(nn.Identity(), head, None, name="color_model", options=options)
    model.card = ModelCard(
        name="color_model",
        options=options,
        classes=build_classes(["red", "green", "blue"], COLORS),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size_hw=None,
        training={},
    )
    return model.eval()
