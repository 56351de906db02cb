"""Effective receptive fields, measured with gradients."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atrous.models import Segmenter
from atrous.profile.trace import hook_modules, list_tensors


def measure_receptive_fields(
    model: Segmenter, size_hw: tuple[int, int], paths: Sequence[str], *, share: float = 0.95
) -> dict[str, int | None]:
    """Measure the effective receptive field of the central cell of module outputs.

    The energy of a pixel is the squared gradient of a random projection of the cell's channels,
    summed over two images of Gaussian noise. In a model without trained weights, normalization
    weights that are initialized to 0 are set to 1: they would block every residual branch.

    Returns:
        Side of the smallest square around the energy's centre that contains `share` of the energy,
        in pixels, by module path; None if the gradient is zero. The model is not changed.

    Source: Luo et al. 2017, arXiv:1701.04128.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    if model.card is None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and not module.weight.any():
                nn.init.ones_(module.weight)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    energies: dict[str, Tensor] = {path: torch.zeros(size_hw) for path in paths}
    for _ in range(2):
        image = torch.randn(1, model.in_channels, *size_hw, generator=generator).to(device)
        cells = _compute_central_cells(model, image.requires_grad_(), paths)
        for path, cell in cells.items():
            projection = torch.randn(cell.shape, generator=generator).to(device)
            (gradient,) = torch.autograd.grad((cell * projection).sum(), image, retain_graph=True)
            energies[path] += gradient[0].square().sum(0).cpu()
    return {path: compute_extent(energy, share) for path, energy in energies.items()}


def compute_extent(energy: Tensor, share: float) -> int | None:
    """Compute the side of the smallest centred square with a share of the energy, float (H, W)."""
    energy = energy.double()
    total = energy.sum()
    if not total > 0 or not torch.isfinite(total):
        return None
    offsets = []
    for axis in range(2):
        positions = torch.arange(energy.shape[axis], dtype=torch.float64)
        centre = (energy.sum(1 - axis) * positions).sum() / total
        offsets.append((positions - centre.round()).abs())
    distance = torch.maximum(offsets[0][:, None], offsets[1][None, :]).long()
    contained = torch.bincount(distance.flatten(), weights=energy.flatten()).cumsum(0) / total
    # The factor absorbs rounding errors for a share of 1.
    radius = int(torch.searchsorted(contained, share * (1 - 1e-12)))
    return 2 * min(radius, len(contained) - 1) + 1


def _compute_central_cells(
    model: Segmenter, image: Tensor, paths: Sequence[str]
) -> dict[str, Tensor]:
    cells: dict[str, Tensor] = {}

    def after(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if path in paths:
            features = list_tensors(output)[-1]
            height, width = features.shape[-2:]
            cells[path] = features[0, :, height // 2, width // 2].clone()

    with torch.enable_grad(), hook_modules(model, lambda _: None, after):
        model(image)
    return cells
