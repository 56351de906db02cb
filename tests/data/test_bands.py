"""Bands of a dataset: what classes.toml says, their ranges, augmentation and normalization."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.bands import BandStatistics
from atrous.classes import IGNORE_INDEX
from atrous.data import Sample, TrainTransform, compute_mask_statistics, open_dataset
from atrous.data.band_statistics import compute_band_statistics, find_band_problems
from atrous.errors import ConfigError, DataError
from atrous.images import normalize
from atrous.images.pixels import compute_fill, convert_to_rgb


@pytest.fixture
def make(tmp_path):
    """Write a dataset of arrays (H, W, bands), and open it."""

    def write(arrays, toml=""):
        for kind in ("images", "masks"):
            (tmp_path / "train" / kind).mkdir(parents=True)
        for number, array in enumerate(arrays):
            np.save(tmp_path / f"train/images/{number}.npy", array)
            mask = Image.fromarray(np.zeros(array.shape[:2], np.uint8))
            mask.save(tmp_path / f"train/masks/{number}.png")
        (tmp_path / "classes.toml").write_text(f'names = ["a", "b"]\n{toml}')
        return open_dataset(tmp_path, "train")

    return write


def draw(num_bands, dtype=np.uint16, high=4096, seed=0):
    return np.random.default_rng(seed).integers(0, high, (20, 30, num_bands)).astype(dtype)


@pytest.mark.parametrize(
    ("toml", "bands", "ranges"),
    [
        ("", 2, None),
        ("bands = 2", 2, None),
        ("bands = 2\nrange = [0, 4095]", 2, ((0, 4095),) * 2),
        ("range = [[0, 4095], [-1.5, 1]]", 2, ((0, 4095), (-1.5, 1))),
    ],
)
def test_classes_toml_says_bands_and_range(make, toml, bands, ranges):
    dataset = make([draw(2)], toml)
    assert (dataset.bands, dataset.ranges) == (bands, ranges)
    assert dataset.load(0).image.shape == (2, 20, 30)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("bands = 0", "whole number from 1"),
        ("bands = true", "whole number from 1"),
        ("range = [0, 9]", "add their number"),
        ("bands = 2\nrange = [9, 0]", "is no range"),
        ("bands = 2\nrange = [0, inf]", "is no range"),
        ("bands = 2\nrange = [0]", "two numbers"),
        ("bands = 2\nrange = 'auto'", "two numbers"),
        ("bands = 3\nrange = [[0, 1], [0, 1]]", "2 ranges, but bands = 3"),
    ],
)
def test_wrong_bands_and_ranges_are_a_paragraph(make, toml, message):
    with pytest.raises(DataError, match=message) as caught:
        make([draw(2)], toml)
    assert "classes.toml" in str(caught.value)


def test_ranges_are_percentiles_and_the_same_every_time(make):
    dataset = make([draw(2, seed=seed) for seed in range(3)])
    first, second = (compute_mask_statistics(dataset).samples for _ in range(2))
    assert np.array_equal(first, second)
    whole = np.concatenate([np.load(path).reshape(-1, 2) for path in dataset.image_paths])
    statistics = compute_band_statistics(first)
    assert np.allclose(statistics.ranges, np.percentile(whole, (0.5, 99.5), axis=0).T, atol=60)
    assert np.allclose(statistics.mean, 0.5, atol=0.03)
    given = compute_band_statistics(first, ((0.0, 8190.0), (0.0, 4095.0)))
    assert given.mean == pytest.approx((0.25, 0.5), abs=0.02)


def test_pixels_without_data_are_ignored_and_low(make):
    array = draw(2, np.float32, 100)
    array[3, 4, 1] = np.nan
    dataset = make([array, draw(2, np.float32, 100)]).read_as(((5.0, 50.0), (7.0, 90.0)))
    sample = dataset.load(0)
    assert sample.image[:, 3, 4].tolist() == [5, 7]
    assert np.argwhere(sample.mask == IGNORE_INDEX).tolist() == [[3], [4]]
    statistics = compute_mask_statistics(dataset)
    assert (statistics.num_without_data, statistics.num_ignored) == (1, 1)


def test_other_bands_and_kinds_of_numbers_are_refused(make):
    dataset = make([draw(2), draw(3)])
    with pytest.raises(DataError, match="has 3 bands, where 2 were expected"):
        compute_mask_statistics(dataset)
    np.save(dataset.image_paths[1], draw(2, np.int16))
    with pytest.raises(DataError, match=r"different kinds: .*uint16, .*int16"):
        compute_mask_statistics(dataset)


def test_few_levels_and_constant_bands_are_found():
    samples = draw(3).reshape(-1, 3).astype(np.float32)
    samples[:, 1] = 7
    samples[:, 2] = samples[:, 2] % 10
    ranges = ((0.0, 65535.0), (0.0, 1.0), (0.0, 9.0))
    (deep, constant, coarse) = find_band_problems(samples, ranges)
    assert deep[0] == coarse[0] == "few-levels"
    assert "uses 16 of 256 levels of its range, 0 to 65535" in deep[1]
    assert "uses 10 of 256 levels" in coarse[1]
    assert constant == ("constant-band", "Band 2 has the value 7 in all images.")
    fitting = compute_band_statistics(samples[:, :1]).ranges
    assert not list(find_band_problems(samples[:, :1], fitting))


RANGES = ((100.0, 300.0), (-1.0, 1.0))


def test_normalization_maps_the_range_and_clips():
    image = torch.tensor([[100.0, 300, 999, torch.nan], [-1, 1, -9, 0]])[None, :, :, None]
    result = normalize(image, (0.5, 0.25), (0.5, 0.25), RANGES)
    assert result[0, :, :, 0].tolist() == [[-1, 1, 1, -1], [-1, 3, -1, 1]]
    assert compute_fill((0.5, 0.25), RANGES).tolist() == [200, -0.5]
    assert convert_to_rgb(image[0], RANGES)[:, :, 0].tolist() == [[0, 255, 255, 0]] * 3
    eight = torch.arange(256, dtype=torch.uint8).repeat(3, 1)[None, :, None]
    same = normalize(eight, ranges=((0.0, 255.0),) * 3)
    torch.testing.assert_close(same, normalize(eight), rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="has 1 band, but the model takes 2"):
        normalize(image[:, :1], (0.5, 0.25), (0.5, 0.25), RANGES)
    with pytest.raises(DataError, match="8-bit RGB"):
        normalize(torch.zeros(1, 3, 4, 4))


def test_augmentation_of_bands():
    values = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(0))
    image = torch.stack([100 + 200 * values[0], 2 * values[1] - 1])
    sample = Sample(image, torch.zeros(40, 50, dtype=torch.uint8), "a")
    bands = {"ranges": RANGES, "mean": (0.5, 0.25)}
    same = TrainTransform(crop_hw=(40, 50), scale=(1, 1), flip=0, **bands)(sample, 0)
    assert torch.equal(same.image, image)
    padded = TrainTransform(crop_hw=(80, 90), scale=(1, 1), flip=0, **bands)(sample, 0)
    assert padded.image[:, padded.mask == IGNORE_INDEX].T.unique(dim=0).tolist() == [[200, -0.5]]
    transform = TrainTransform(crop_hw=(32, 32), brightness=0.5, contrast=0.5, **bands)
    first, second = transform(sample, 1), transform(sample, 1)
    assert torch.equal(first.image, second.image)
    assert 100 <= first.image[0].min() < first.image[0].max() <= 300
    with pytest.raises(ConfigError, match="the images have 2 bands"):
        replace(transform, hue=0.1)
    three = TrainTransform(crop_hw=(9, 9), hue=0.1, saturation=0.3, ranges=((0.0, 9.0),) * 3)
    assert three(replace(sample, image=9 * torch.rand(3, 40, 50)), 0).image.shape == (3, 9, 9)


def test_statistics_survive_json():
    statistics = BandStatistics(((0.0, 1.0),), (0.5,), (0.25,))
    values = {"ranges": [[0, 1]], "mean": [0.5], "std": [0.25]}
    assert BandStatistics.from_json(values) == statistics
    assert BandStatistics.from_json(None) is None
