import random

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from atrous.classes import IGNORE_INDEX
from atrous.data import Sample, TrainTransform
from atrous.errors import ConfigError
from atrous.images import IMAGENET_MEAN, IMAGENET_STD, normalize, resize_image
from atrous.images.pixels import resize_mask

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


def make_sample(height: int, width: int) -> Sample:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    mask = torch.randint(0, 5, (height, width), dtype=torch.uint8, generator=generator)
    return Sample(image, mask, "name")


def make_aligned(height: int, width: int) -> Sample:
    """An image whose every pixel tells its class, so that a wrong match would show."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mask = ((rows // 16 + columns // 16) % 2).to(torch.uint8)
    return Sample((mask * 200).expand(3, -1, -1), mask, "name")


@pytest.mark.parametrize(
    "transform",
    [
        TrainTransform(size_hw=(24, 40), **JITTER),
        TrainTransform(crop_hw=(24, 40), **JITTER),
        TrainTransform(crop_hw=(24, 40), long_side=70),
        TrainTransform(crop_hw=(24, 40), scale=(0.05, 0.1)),
        TrainTransform(crop_hw=(24, 40), scale=(30.0, 60.0)),
    ],
)
@pytest.mark.parametrize("hw", [(30, 50), (7, 90), (64, 3), (1, 1)])
def test_samples_are_of_the_size_asked_for_and_a_function_of_the_seed(transform, hw):
    sample = make_sample(*hw)
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    results = [transform(sample, seed) for seed in (3, 4, 3)]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])
    for result in results:
        assert (result.image.shape, result.image.dtype) == ((3, 24, 40), torch.uint8)
        assert (result.mask.shape, result.mask.dtype) == ((24, 40), torch.uint8)
        assert set(result.mask.unique().tolist()) <= {*range(5), IGNORE_INDEX}
    assert torch.equal(results[0].image, results[2].image)
    assert torch.equal(results[0].mask, results[2].mask)
    if min(hw) > 1:
        assert not torch.equal(results[0].image, results[1].image)
    assert torch.equal(sample.image, make_sample(*hw).image), "the input was changed"


@pytest.mark.parametrize(
    "transform", [TrainTransform(crop_hw=(64, 80)), TrainTransform(size_hw=(96, 48))]
)
def test_image_and_mask_stay_together(transform):
    sample = make_aligned(90, 120)
    for seed in range(40):
        result = transform(sample, seed)
        seen = result.mask != IGNORE_INDEX
        agree = (result.image[0] > 100) == (result.mask == 1)
        assert agree[seen].float().mean() > 0.97


def test_padding_is_the_mean_colour_and_ignored():
    result = TrainTransform(crop_hw=(60, 60), scale=(0.5, 0.5), **JITTER)(make_sample(40, 40), 0)
    padding = result.mask == IGNORE_INDEX
    assert int(padding.sum()) == 60 * 60 - 20 * 20
    assert result.image[:, padding].unique(dim=1).flatten().tolist() == [124, 116, 104]


def test_a_crop_at_scale_1_is_a_window_of_the_image():
    sample = make_sample(50, 60)
    result = TrainTransform(crop_hw=(20, 30), scale=(1.0, 1.0), flip=0.0)(sample, 5)
    windows = sample.mask.unfold(0, 20, 1).unfold(1, 30, 1)
    (place,) = (windows == result.mask).all(dim=(2, 3)).nonzero().tolist()
    top, left = place
    assert torch.equal(result.image, sample.image[:, top : top + 20, left : left + 30])


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, False), (1.0, True)])
def test_flip(probability, flipped):
    sample = make_sample(8, 10)
    result = TrainTransform(size_hw=(8, 10), flip=probability)(sample, 0)
    expected = F.horizontal_flip(sample.image) if flipped else sample.image
    assert torch.equal(result.image, expected)
    assert torch.equal(result.mask, F.horizontal_flip(sample.mask) if flipped else sample.mask)


def test_masks_are_resized_about_pixel_centres():
    mask = torch.arange(9, dtype=torch.uint8)[None]
    assert resize_mask(mask, (1, 3)).tolist() == [[1, 4, 7]]


def test_normalize_gives_the_formula_and_keeps_channels_last():
    image = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(torch.uint8)
    image = image.to(memory_format=torch.channels_last)
    result = normalize(image)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(result, (image / 255 - mean) / std, atol=1e-5, rtol=1e-5)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert image.dtype == torch.uint8


def test_resize_image_takes_batches():
    assert resize_image(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (5, 7)).shape == (2, 3, 5, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a size to resize to or a crop"),
        ({"size_hw": (8, 8), "crop_hw": (8, 8)}, "crop, not both"),
        ({"size_hw": (0, 8)}, "at least 1 pixel"),
        ({"crop_hw": (8, 8), "scale": (2.0, 1.0)}, "two increasing factors"),
        ({"crop_hw": (8, 8), "scale": (0.0, 1.0)}, "two increasing factors"),
        ({"size_hw": (8, 8), "flip": 1.5}, "flip must be 0 to 1, not 1.5"),
        ({"size_hw": (8, 8), "hue": 0.6}, "hue must be 0 to 0.5, not 0.6"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainTransform(**options)


def test_the_long_side_makes_the_scale_independent_of_the_size_of_the_image():
    small = make_aligned(96, 128)
    large = make_aligned(288, 384)
    transform = TrainTransform(crop_hw=(64, 64), scale=(1.0, 1.0), long_side=64, flip=0)
    for sample in (small, large):
        assert (transform(sample, 3).mask != IGNORE_INDEX).sum() == 64 * 48
