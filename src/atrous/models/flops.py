"""How many operations a model takes, counted without computing them."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrous.models.segmenter import Segmenter


def count_flops(model: Segmenter, size_hw: tuple[int, int]) -> int:
    """Count the operations of one forward pass over one picture.

    Convolutions and matrix products count, two operations per multiply-add, padding included;
    norms, activations and resizing do not.

    Args:
        model: Stays as it is.
        size_hw: Height and width of the picture.
    """
    shadow = build_shadow(model).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(build_shadow_picture(model, size_hw))
    return int(counter.get_total_flops())


def build_shadow(model: Segmenter) -> Segmenter:
    """Return a copy of a model on the meta device: all shapes, no values, no memory."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def build_shadow_picture(model: Segmenter, size_hw: tuple[int, int], batch_size: int = 1) -> Tensor:
    """Return a batch of pictures for a model on the meta device."""
    channels = model.options.get("in_channels", 3)
    return torch.empty(batch_size, channels, *size_hw, device="meta")
