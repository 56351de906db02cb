from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def randomise_norms() -> Callable[[nn.Module], nn.Module]:
    """Give every normalisation weights and statistics that differ from doing nothing."""

    def randomise(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, 0, 0.1, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
        return model

    return randomise
