"""The optimizer, and the moving average of the weights."""

from collections.abc import Collection

import torch
from torch import nn

from atrous.recipe import TrainRecipe


def build_optimizer(model: nn.Module, settings: TrainRecipe) -> torch.optim.Optimizer:
    """Build the optimizer, fused: one pass over the weights, on a CPU too.

    Norms and biases have no weight decay; the backbone has the factor `backbone_lr`, under
    `lr_factor` of its parameter groups.
    """
    parts: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = settings.backbone_lr if name.startswith("backbone.") else 1.0
            parts.setdefault(factor, []).append(parameter)
    groups = [
        {
            "params": [p for p in parameters if (p.ndim > 1) == is_weight],
            "weight_decay": settings.weight_decay if is_weight else 0.0,
            "lr_factor": factor,
        }
        for factor, parameters in parts.items()
        for is_weight in (True, False)
    ]
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=settings.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=True)


@torch.no_grad()
def update_average(
    average: nn.Module, model: nn.Module, decay: float, frozen: Collection[str]
) -> None:
    """Move the averaged weights and statistics towards the current ones, but for `frozen`."""
    current, averaged = model.state_dict(), average.state_dict()
    names = sorted(current.keys() - set(frozen))
    floats = [name for name in names if averaged[name].is_floating_point()]
    torch._foreach_lerp_(
        [averaged[name] for name in floats], [current[name] for name in floats], 1 - decay
    )
    for name in set(names).difference(floats):
        averaged[name].copy_(current[name])
