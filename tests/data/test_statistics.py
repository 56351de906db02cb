import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atrous.classes import build_classes
from atrous.data import (
    MaskStatistics,
    SegmentationDataset,
    compute_class_weights,
    compute_mask_statistics,
    open_dataset,
    statistics,
)
from atrous.errors import ConfigError, DataError


def make_dataset(folder, masks, image_hw=(2, 3), ignore_index=9) -> SegmentationDataset:
    images = []
    for number, mask in enumerate(masks):
        images.append(folder / f"{number}.jpg")
        Image.fromarray(np.zeros((*image_hw, 3), np.uint8)).save(images[-1])
        Image.fromarray(np.array(mask, np.uint8)).save(folder / f"{number}.png")
    return SegmentationDataset(
        root=folder,
        split="train",
        format="pairs",
        classes=build_classes(["a", "b", "c"]),
        ignore_index=ignore_index,
        names=[path.stem for path in images],
        image_paths=images,
        mask_paths=[path.with_suffix(".png") for path in images],
    )


def test_an_error_in_progress_skips_the_other_masks(tmp_path, monkeypatch):
    dataset = make_dataset(tmp_path, [[[0, 0, 0]]])
    dataset = replace(dataset, names=dataset.names * 999, mask_paths=dataset.mask_paths * 999)
    counted = []

    def count(dataset, index):
        counted.append(index)
        time.sleep(0.005)
        return statistics._Tally()

    def progress(done, total):
        raise KeyError

    monkeypatch.setattr(statistics, "_count", count)
    with pytest.raises(KeyError):
        compute_mask_statistics(dataset, progress)
    assert len(counted) < 900


def test_pixels_are_counted(tmp_path):
    dataset = make_dataset(tmp_path, [[[0, 0, 0], [0, 1, 9]], [[0, 0, 9], [0, 0, 0]]])
    seen = []
    statistics = compute_mask_statistics(dataset, lambda done, total: seen.append((done, total)))
    assert statistics == MaskStatistics([9, 1, 0], [10, 5, 0], num_ignored=2)
    assert seen == [(1, 2), (2, 2)]


def test_processes_that_read_a_share_each_find_what_one_finds(tmp_path):
    dataset = make_dataset(tmp_path, [[[0, 0, 0], [0, 1, 9]], [[0, 0, 9], [0, 0, 0]]] * 2)
    dataset = replace(dataset, bands=3)
    tallies = []

    def compute(rank, gather=lambda tally: [tally]):
        return compute_mask_statistics(dataset, rank=rank, size=3, gather=gather)

    for rank in range(3):
        compute(rank, lambda tally: [tallies.append(tally) or tally])
    whole, parts = compute_mask_statistics(dataset), compute(0, lambda tally: tallies)
    assert np.array_equal(parts.samples, whole.samples)
    assert replace(parts, samples=None) == replace(whole, samples=None)
    assert parts.pixels_where_present == [20, 10, 0]


def test_wrong_values_are_reported_once_for_all_masks(tmp_path):
    good, bad = [[0, 1, 2], [9, 9, 9]], [[0, 3, 77], [255, 0, 0]]
    dataset = make_dataset(tmp_path, [good, bad, good, bad, bad])
    with pytest.raises(
        DataError, match=r"3 of the 5 masks .* 3, 77, 255, where 0 to 2 are"
    ) as caught:
        compute_mask_statistics(dataset)
    assert "(1.png, 3.png, 4.png)" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_different_sizes_and_unreadable_masks_are_errors(tmp_path):
    dataset = make_dataset(tmp_path, [np.zeros((4, 3))] * 5)
    with pytest.raises(DataError, match=r"5 of the 5 pairs .* 0.png, 1.png") as caught:
        compute_mask_statistics(dataset)
    assert "0.jpg is 3 × 2 pixels" in str(caught.value)
    dataset.mask_paths[0].write_text("no image")
    with pytest.raises(DataError, match=r"Cannot read .*0.png as an image"):
        compute_mask_statistics(dataset)


def test_class_weights():
    statistics = MaskStatistics([60, 20, 10, 0], [100, 80, 20, 0], num_ignored=0)
    assert compute_class_weights(statistics, "none") is None
    # frequencies 0.6, 0.25, 0.5
    median = compute_class_weights(statistics, "median_frequency")
    assert median == pytest.approx([0.5 / 0.6, 0.5 / 0.25, 1, 0])
    inverse = compute_class_weights(statistics, "inverse")
    assert inverse == pytest.approx([0.3, 0.9, 1.8, 0])
    assert np.mean(inverse[:3]) == pytest.approx(1)


def test_invalid_class_weights():
    with pytest.raises(ConfigError, match="Did you mean 'median_frequency'"):
        compute_class_weights(MaskStatistics([1], [1], 0), "median")
    with pytest.raises(DataError, match="every pixel is ignored"):
        compute_class_weights(MaskStatistics([0], [0], 5), "inverse")


def test_camvid(real_data):
    dataset = open_dataset(real_data / "camvid", "val")
    statistics = compute_mask_statistics(dataset)
    assert sum(statistics.pixels) + statistics.num_ignored == 101 * 360 * 480
    histogram = np.zeros(12, int)
    for path in dataset.mask_paths:
        histogram += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=12)
    assert statistics.pixels == histogram[:11].tolist()
    weights = compute_class_weights(statistics, "median_frequency")
    assert weights[dataset.classes.names.index("road")] == min(weights)
