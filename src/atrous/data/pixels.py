"""Pixels as a network wants them: resized, normalised."""

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(
    image: Tensor,
    mean: Sequence[float] | Tensor = IMAGENET_MEAN,
    std: Sequence[float] | Tensor = IMAGENET_STD,
) -> Tensor:
    """Subtract the mean and divide by the deviation, both on a scale where white is 1.

    Shapes:
        image: uint8 (B, 3, H, W), 0-255, on any device
        returns: float32 (B, 3, H, W), in the same memory format
    """
    offset = torch.as_tensor(mean, dtype=torch.float32, device=image.device).view(3, 1, 1)
    scale = torch.as_tensor(std, dtype=torch.float32, device=image.device).view(3, 1, 1)
    return image.float().sub_(255 * offset).div_(255 * scale)


def resize_image(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize (…, 3, H, W) images, bilinear with antialiasing."""
    if image.shape[-2:] == size_hw:
        return image
    from torchvision.transforms.v2 import InterpolationMode, functional  # takes as long as torch

    return functional.resize(image, list(size_hw), InterpolationMode.BILINEAR, antialias=True)


def resize_mask(mask: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize a (H, W) mask to the nearest value.

    Pixel centres are matched as they are in `resize_image`; torchvision's own resizing of masks
    matches corners, which shifts a mask by up to half a pixel against its image.
    """
    if mask.shape == size_hw:
        return mask
    from torchvision.transforms.v2 import InterpolationMode, functional

    return functional.resize(mask[None], list(size_hw), InterpolationMode.NEAREST_EXACT)[0]
