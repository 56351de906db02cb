"""Augmentation of training samples to one size."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from atrous.bands import Ranges
from atrous.classes import IGNORE_INDEX
from atrous.data.dataset import Sample
from atrous.errors import ConfigError
from atrous.images.pixels import IMAGENET_MEAN, compute_fill, resize_image, resize_mask


@dataclass(frozen=True)
class TrainTransform:
    """Random augmentation of a training sample, a function of one seed.

    Exactly one of `size_hw` and `crop_hw` is required.

    Attributes:
        size_hw: Size to which the whole image is resized, regardless of its aspect ratio.
        crop_hw: Size of a random window that is cut out after scaling by a random factor. Outside
            of the image, the window has the mean colour and ignored pixels.
        scale: Smallest and largest factor, drawn uniformly; only with `crop_hw`.
        long_side: Longer side in pixels to which images are resized before they are scaled; None
            for their own size. Only with `crop_hw`. Larger images are first reduced to the largest
            scale of it.
        flip: Probability of a horizontal flip.
        brightness, contrast, saturation: The factor is drawn from 1 ± this number.
        hue: The shift is drawn from ± `hue`; 0.5 is half the colour circle.
        ranges: Value range of each band; None for 8-bit RGB.
        mean: Mean of each band, in units of its range.

    Raises:
        ConfigError: Not exactly one of the sizes is given, a number is out of range, or saturation
            or hue is given for other images than of three bands.
    """

    size_hw: tuple[int, int] | None = None
    crop_hw: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    long_side: int | None = None
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    ranges: Ranges | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN

    def __post_init__(self) -> None:
        if (self.size_hw is None) == (self.crop_hw is None):
            raise ConfigError("Give either a size to resize to or a crop, not both.")
        if min(self.size_hw or self.crop_hw or ()) < 1:
            raise ConfigError(f"A size must be at least 1 pixel: {self.size_hw or self.crop_hw}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"scale must be two increasing factors above 0, not {self.scale}.")
        for name, limit in (
            ("flip", 1), ("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)
        ):  # fmt: skip
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(f"{name} must be 0 to {limit}, not {getattr(self, name)}.")
        if self.ranges is not None and len(self.ranges) != 3 and (self.saturation or self.hue):
            raise ConfigError(
                "data.saturation and data.hue change the colours of red, green and blue, but the "
                f"images have {len(self.ranges)} band{'s' * (len(self.ranges) > 1)}. Set both to "
                "0; data.brightness and data.contrast change any band."
            )

    def __call__(self, sample: Sample, generator_seed: int) -> Sample:
        """Return the augmented sample; no global random state is read or changed.

        Shapes:
            returns: image uint8 (3, *size) or float32 (bands, *size), mask uint8 (*size)
        """
        rng = random.Random(generator_seed)
        image, mask = self.resize(sample.image, sample.mask)
        padding = [0, 0, 0, 0]
        if self.crop_hw is not None:
            image, mask, padding = self._crop(image, mask, rng)
        image = self._jitter(image, rng) if self.ranges is None else self._jitter_bands(image, rng)
        if any(padding):
            image = F.pad(image, padding, fill=compute_fill(self.mean, self.ranges).tolist())
            mask = F.pad(mask[None], padding, fill=IGNORE_INDEX)[0]
        if rng.random() < self.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        return Sample(image, mask, sample.name)

    def resize(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Resize a sample before the random augmentation; nothing changes if it is done twice."""
        size_hw = self.choose_hw((image.shape[1], image.shape[2]))
        return resize_image(image, size_hw), resize_mask(mask, size_hw)

    def choose_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return `size_hw`, or the size at most `long_side` times the largest scale."""
        if self.size_hw is not None or self.long_side is None:
            return self.size_hw or image_hw
        longest = max(image_hw)
        limit = min(longest, round(self.long_side * self.scale[1]))
        height, width = (max(1, round(side * limit / longest)) for side in image_hw)
        return height, width

    def is_flipped(self, generator_seed: int) -> bool:
        """Return whether a seed flips the sample; only for transforms without crop and jitter."""
        others = (self.crop_hw, self.brightness, self.contrast, self.saturation, self.hue)
        assert not any(others), "other augmentation draws random numbers before the flip"
        return random.Random(generator_seed).random() < self.flip

    def _crop(
        self, image: Tensor, mask: Tensor, rng: random.Random
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Cut before scaling; also return the padding (left, top, right, bottom) to be added."""
        assert self.crop_hw is not None
        factor = rng.uniform(*self.scale)
        if self.long_side is not None:
            factor *= self.long_side / max(image.shape[1:])
        (top, bottom), (above, height, below) = _cut(image.shape[1], self.crop_hw[0], factor, rng)
        (left, right), (before, width, after) = _cut(image.shape[2], self.crop_hw[1], factor, rng)
        image = resize_image(image[:, top:bottom, left:right], (height, width))
        mask = resize_mask(mask[top:bottom, left:right], (height, width))
        return image, mask, [before, above, after, below]

    def _jitter(self, image: Tensor, rng: random.Random) -> Tensor:
        for amount, adjust in (
            (self.brightness, F.adjust_brightness),
            (self.contrast, _adjust_contrast),
            (self.saturation, F.adjust_saturation),
        ):
            if amount:
                image = adjust(image, rng.uniform(1 - amount, 1 + amount))
        if self.hue:
            image = F.adjust_hue(image, rng.uniform(-self.hue, self.hue))
        return image

    def _jitter_bands(self, image: Tensor, rng: random.Random) -> Tensor:
        """Change images of any bands; the contrast about the mean of each band."""
        amounts = self.brightness, self.contrast, self.saturation, self.hue
        if not any(amounts):
            return image
        assert self.ranges is not None
        values = torch.tensor(self.ranges, dtype=torch.float32)[..., None, None]
        low, span = values[:, 0], values[:, 1] - values[:, 0]
        mean = torch.tensor(self.mean)[:, None, None]
        factors = [rng.uniform(1 - amount, 1 + amount) for amount in amounts[:3]]
        shares = ((image - low) / span).clamp_(0, 1)
        shares = ((shares * factors[0] - mean) * factors[1] + mean).clamp_(0, 1)
        if self.saturation:
            shares = F.adjust_saturation(shares, factors[2])
        if self.hue:
            shares = F.adjust_hue(shares, rng.uniform(-self.hue, self.hue))
        return shares * span + low


def _adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """As in torchvision, but with an integer sum, which is exact with any number of threads."""
    grey = F.rgb_to_grayscale(image)
    mean = torch.tensor(grey.sum(dtype=torch.int64).item() / grey.numel())
    return image.mul(factor).add_(mean, alpha=1 - factor).clamp_(0, 255).to(torch.uint8)


def _cut(
    length: int, target: int, factor: float, rng: random.Random
) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Place a window at random along one side of the image; a longer one contains all of it.

    Returns start and end of the part in the window, and how many of the `target` pixels lie
    before, in and after it.
    """
    window = max(1, round(target / factor))
    start = rng.randint(min(0, length - window), max(0, length - window))
    first, last = max(0, start), min(length, start + window)
    before = round((first - start) * target / window)
    inside = max(1, round((last - start) * target / window) - before)
    before = min(before, target - inside)
    return (first, last), (before, inside, target - before - inside)
