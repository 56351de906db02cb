"""Resizing and normalisation of images and masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from atrous.bands import Ranges
from atrous.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(
    image: Tensor,
    mean: Sequence[float] | Tensor = IMAGENET_MEAN,
    std: Sequence[float] | Tensor = IMAGENET_STD,
    ranges: Ranges | None = None,
) -> Tensor:
    """Subtract the mean and divide by the standard deviation, both of images from 0 to 1.

    Args:
        image: Images, 0 to 255; or, with `ranges`, in the units of the file.
        mean: Mean per channel.
        std: Standard deviation per channel.
        ranges: Values of each channel that become 0 and 1; those beyond and NaN are clipped.

    Shapes:
        image: uint8 (B, 3, H, W), or float32 (B, bands, H, W)
        returns: float32, in the same memory format

    Raises:
        DataError: The number of channels differs from that of the model.
    """
    offset, scale = (
        torch.as_tensor(values, dtype=torch.float32).to(image.device, non_blocking=True)[
            :, None, None
        ]
        for values in (mean, std)
    )
    if (found := image.shape[-3]) != len(offset):
        raise DataError(
            f"The image has {found} band{'s' * (found > 1)}, but the model takes {len(offset)}. "
            "Give images with the bands that the model was trained on."
        )
    if ranges is None and image.dtype.is_floating_point:
        raise DataError("The model takes 8-bit RGB images; this one was read at its own depth.")
    if ranges is None:
        return image.float().sub_(255 * offset).div_(255 * scale)
    low, span = _split_ranges(ranges, image.device)
    shares = ((image.float() - low) / span).nan_to_num_(0.0).clamp_(0, 1)
    return shares.sub_(offset).div_(scale)


def compute_fill(mean: Sequence[float], ranges: Ranges | None = None) -> Tensor:
    """Return the mean colour of images, for padding: uint8 (3,), or float32 (bands,)."""
    share = torch.tensor(mean)
    if ranges is None:
        return (share * 255).round().to(torch.uint8)
    low, span = _split_ranges(ranges, share.device)
    return low.flatten() + span.flatten() * share


def convert_to_rgb(image: Tensor, ranges: Ranges | None) -> Tensor:
    """Return images for display: the first three bands, or the first as grey.

    Shapes:
        image: uint8 (3, H, W) without ranges; else float32 (bands, H, W)
        returns: uint8 (3, H, W)
    """
    if ranges is None:
        return image
    low, span = _split_ranges(ranges, image.device)
    shown = slice(0, 3 if len(ranges) >= 3 else 1)
    shares = ((image[shown] - low[shown]) / span[shown]).nan_to_num_(0.0).clamp_(0, 1)
    return (255 * shares).round_().to(torch.uint8).expand(3, -1, -1)


def _split_ranges(ranges: Ranges, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the low ends of ranges, and their widths, each (bands, 1, 1)."""
    values = torch.tensor(ranges).to(device, non_blocking=True)[..., None, None]
    return values[:, 0], values[:, 1] - values[:, 0]


def resize_image(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize (…, bands, H, W) images, bilinear with antialiasing."""
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
