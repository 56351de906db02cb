"""FLOPs of a model, counted on the meta device."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrous.models import Segmenter


def count_flops(model: Segmenter, size_hw: tuple[int, int]) -> int:
    """Count the floating-point operations of one forward pass over one image.

    Counts convolutions and matrix products, two operations per multiply-add, including padding.
    Normalization, activations and resizing are not counted. The model is not changed.
    """
    meta_model = copy_to_meta(model).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        meta_model(build_meta_images(model, size_hw))
    return int(counter.get_total_flops())


def copy_to_meta(model: Segmenter) -> Segmenter:
    """Return a copy of a model on the meta device, which allocates no memory for weights."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def build_meta_images(model: Segmenter, size_hw: tuple[int, int], batch_size: int = 1) -> Tensor:
    """Return a batch of images for a model, on the meta device."""
    return torch.empty(batch_size, model.in_channels, *size_hw, device="meta")
