"""How much of the picture a cell of a feature map sees: by arithmetic, and by gradients."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atrous.inspect.fields import FieldMode
from atrous.inspect.trace import follow_modules, list_tensors
from atrous.models import Segmenter
from atrous.models.flops import build_shadow_picture

# A picture that no field of a few thousand pixels reaches across; on the meta device it is free.
_SIDE_PX = 16384


@dataclass(frozen=True)
class ReceptiveField:
    """What one cell depends on.

    Attributes:
        size_px: Side of the square of pixels that reach it through convolutions and windows,
            whatever the picture's size; None: it sees nothing but pooled features.
        whole_picture: Whether it also depends on a mean over the whole picture or shares of it.
    """

    size_px: int | None
    whole_picture: bool


def compute_receptive_fields(shadow: Segmenter) -> dict[str, ReceptiveField]:
    """Follow which pixels every module's result depends on, through kernels, strides and rates.

    Args:
        shadow: A model on the meta device.

    Returns:
        The field of the last tensor that each module returned, by the module's path.
    """
    fields: dict[str, ReceptiveField] = {}

    def leave(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        for tensor in list_tensors(output):
            field = mode.fields.get(tensor)
            if field is not None:
                sides = [span.largest for span in field.spans or ()]
                fields[path] = ReceptiveField(max(sides, default=None), field.pools)

    image = build_shadow_picture(shadow, (_SIDE_PX, _SIDE_PX))
    with torch.no_grad(), FieldMode() as mode, follow_modules(shadow, lambda _: None, leave):
        mode.start(image)
        shadow.eval().compute_training_logits(image)
    return fields


def measure_receptive_fields(
    model: Segmenter,
    size_hw: tuple[int, int],
    paths: Sequence[str],
    *,
    share: float = 0.95,
    num_pictures: int = 2,
    seed: int = 0,
) -> dict[str, int | None]:
    """Find by gradients how many pixels really move the central cell of a module's result.

    The energy of a pixel is the squared gradient of a random mix of the cell's channels, summed
    over pictures of noise. In a model with new weights, norms that start at 0 count as 1: they
    would close every residual branch.

    Args:
        model: Stays as it is.
        size_hw: Height and width of the pictures.
        paths: Modules, by path.
        share: Share of the energy that the square holds.
        num_pictures: How many pictures of noise.
        seed: Of noise and mixes.

    Returns:
        Side of the smallest square about the centre of the energy that holds its share, by path;
        None where no pixel matters.

    Source: Luo et al. 2017, arXiv:1701.04128.
    """
    model = _prepare(model)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    energies: dict[str, Tensor] = {path: torch.zeros(size_hw) for path in paths}
    for _ in range(num_pictures):
        channels = model.options.get("in_channels", 3)
        image = torch.randn(1, channels, *size_hw, generator=generator).to(device)
        cells = _compute_central_cells(model, image.requires_grad_(), paths)
        for path, cell in cells.items():
            mix = torch.randn(cell.shape, generator=generator).to(device)
            (gradient,) = torch.autograd.grad((cell * mix).sum(), image, retain_graph=True)
            energies[path] += gradient[0].square().sum(0).cpu()
    return {path: compute_extent(energy, share) for path, energy in energies.items()}


def compute_extent(energy: Tensor, share: float) -> int | None:
    """Return the side of the smallest square about the mean place that holds a share of all.

    Shapes:
        energy: float (H, W), not negative
    """
    energy = energy.double()
    total = energy.sum()
    if not total > 0 or not torch.isfinite(total):
        return None
    offsets = []
    for axis in range(2):
        places = torch.arange(energy.shape[axis], dtype=torch.float64)
        centre = (energy.sum(1 - axis) * places).sum() / total
        offsets.append((places - centre.round()).abs())
    distance = torch.maximum(offsets[0][:, None], offsets[1][None, :]).long()
    held = torch.bincount(distance.flatten(), weights=energy.flatten()).cumsum(0) / total
    # Rounding must not put the last crumb of a share of 1 out of reach.
    reach = int(torch.searchsorted(held, share * (1 - 1e-12)))
    return 2 * min(reach, len(held) - 1) + 1


def _prepare(model: Segmenter) -> Segmenter:
    model = copy.deepcopy(model).eval().requires_grad_(False)
    if model.card is None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and not module.weight.any():
                nn.init.ones_(module.weight)
    return model


def _compute_central_cells(
    model: Segmenter, image: Tensor, paths: Sequence[str]
) -> dict[str, Tensor]:
    cells: dict[str, Tensor] = {}

    def leave(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if path in paths:
            features = list_tensors(output)[-1]
            height, width = features.shape[-2:]
            cells[path] = features[0, :, height // 2, width // 2].clone()

    with torch.enable_grad(), follow_modules(model, lambda _: None, leave):
        model(image)
    return cells
