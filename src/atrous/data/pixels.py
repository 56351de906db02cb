"""Resizing and normalisation of images and masks."""

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
    """Subtract the mean and divide by the standard deviation.

    Args:
        image: Images, 0 to 255.
        mean: Mean per channel, for images from 0 to 1.
        std: Standard deviation per channel, for images from 0 to 1.

    Shapes:
        image: uint8 (B, 3, H, W)
        returns: float32 (B, 3, H, W), in the same memory format
    """
    offset = torch.as_tensor(mean, dtype=torch.float32, device=image.device).view(3, 1, 1)
    scale = torch.as_tensor(std, dtype=torch.float32, device=image.device).view(3, 1, 1)
    return image.float().sub_(255 * offset).div_(255 * scale)


def resize_image(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize (…, 3, H, W) images, bilinear with antialiasing."""
    if image.shape[-2:] == size_hw:
        return image
    from torchvision.transforms.v2 import InterpolationMode, functional  # slow to import

    return functional.resize(image, list(size_hw), InterpolationMode.BILINEAR, antialias=True)


def resize_mask(mask: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize a (H, W) mask with nearest neighbour interpolation.

    Pixel centres are aligned as in `resize_image`; torchvision's default for masks shifts them by
    up to half a pixel against the image.
    """
    if mask.shape == size_hw:
        return mask
    from torchvision.transforms.v2 import InterpolationMode, functional

    return functional.resize(mask[None], list(size_hw), InterpolationMode.NEAREST_EXACT)[0]
