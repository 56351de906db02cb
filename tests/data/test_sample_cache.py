"""The cache of decoded training images: equal samples, never from stale or broken files."""

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atrous.data import TrainTransform, build_train_loader, compute_mask_statistics, open_dataset
from atrous.errors import ConfigError, DataError
from atrous.recipe import DataRecipe
from atrous.training.batches import build_transform, cache_samples


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data/train" / kind).mkdir(parents=True)
    for number, hw in enumerate([(300, 400), (280, 390), (40, 30), (400, 300)]):
        pixels = generator.integers(0, 256, (*hw, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"data/train/images/{number}.jpg")
        mask = generator.integers(0, 3, hw, np.uint8)
        Image.fromarray(mask).save(tmp_path / f"data/train/masks/{number}.png")
    return tmp_path / "data"


@pytest.fixture
def recipe(data):
    return DataRecipe(root=str(data), long_side=64, crop=48, scale=(0.5, 1.5), saturation=0.3)


def load(dataset, recipe):
    options = {"batch_size": 2, "seed": 0, "start_batch": 0, "num_batches": 5, "workers": 0}
    return list(build_train_loader(dataset, build_transform(recipe), **options))


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.image, other.image)
        assert torch.equal(batch.mask, other.mask)
        assert batch.names == other.names


def test_batches_are_the_same_from_the_files_from_a_new_and_from_a_full_cache(
    data, recipe, tmp_path, monkeypatch
):
    dataset = open_dataset(data, "train")
    cached = cache_samples(dataset, recipe, tmp_path / "cache")
    expected = load(dataset, recipe)
    assert_equal(load(cached, recipe), expected)
    assert len(list((tmp_path / "cache").iterdir())) == 4
    monkeypatch.setattr("atrous.data.dataset.read_image", None)
    assert_equal(load(cached, recipe), expected)


def test_reading_the_masks_before_training_fills_it(data, recipe, tmp_path, monkeypatch):
    dataset = open_dataset(data, "train")
    cached = cache_samples(dataset, recipe, tmp_path / "cache")
    assert compute_mask_statistics(cached) == compute_mask_statistics(dataset)
    expected = load(dataset, recipe)
    monkeypatch.setattr("atrous.data.dataset.read_image", None)
    assert_equal(load(cached, recipe), expected)


def test_a_changed_image_and_a_damaged_file_are_read_anew(data, recipe, tmp_path):
    dataset = open_dataset(data, "train")
    cached = cache_samples(dataset, recipe, tmp_path / "cache")
    before = load(cached, recipe)
    file = data / "train/images/0.jpg"
    Image.open(data / "train/images/0.jpg").rotate(180).save(file)
    os.utime(file, ns=(0, 0))
    assert_equal(load(cached, recipe), load(dataset, recipe))
    with pytest.raises(AssertionError):
        assert_equal(load(cached, recipe), before)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-1] if path.stat().st_size % 2 else b"")
    assert_equal(load(cached, recipe), load(dataset, recipe))


def test_an_image_that_is_gone_is_an_error_as_without_a_cache(data, recipe, tmp_path):
    cached = cache_samples(open_dataset(data, "train"), recipe, tmp_path / "cache")
    (data / "train/images/1.jpg").unlink()
    with pytest.raises(DataError, match=r"1\.jpg"):
        load(cached, recipe)


def test_a_full_disk_is_an_error_and_leaves_no_file(data, recipe, tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    cached = cache_samples(open_dataset(data, "train"), recipe, tmp_path / "cache")
    monkeypatch.setattr("atrous.files.sync", fail)
    with pytest.raises(ConfigError, match=r"No space left.*--set data\.cache=off"):
        load(cached, recipe)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("changes", "is_cached"),
    [({}, True), ({"long_side": 200}, False), ({"long_side": None}, False),
     ({"crop": None, "long_side": None, "size": 64}, True), ({"cache": "off"}, False),
     ({"long_side": 400, "cache": "kept"}, True)],
)  # fmt: skip
def test_auto_takes_it_if_the_samples_are_much_smaller(data, recipe, tmp_path, changes, is_cached):
    recipe = DataRecipe(**{**recipe.model_dump(), **changes})
    dataset = cache_samples(open_dataset(data, "train"), recipe, tmp_path / "cache")
    assert (dataset.cache is not None) == is_cached


def test_auto_leaves_half_of_the_disk_free_and_a_folder_without_room_is_an_error(
    data, recipe, tmp_path, monkeypatch
):
    dataset = open_dataset(data, "train")
    num_bytes = cache_samples(dataset, recipe, tmp_path / "cache").cache.num_bytes
    monkeypatch.setattr("atrous.training.batches.read_free_bytes", lambda _: num_bytes)
    assert cache_samples(dataset, recipe, tmp_path / "cache").cache is None
    given = recipe.model_copy(update={"cache": str(tmp_path / "own")})
    assert cache_samples(dataset, given, tmp_path / "cache").cache.folder == tmp_path / "own"
    monkeypatch.setattr("atrous.training.batches.read_free_bytes", lambda _: num_bytes // 2)
    with pytest.raises(ConfigError, match=r"need 8\d kB in .*own, where 4\d kB are free"):
        cache_samples(dataset, given, tmp_path / "cache")
    assert cache_samples(replace(dataset, bands=3), recipe, tmp_path).cache is None
    with pytest.raises(ConfigError, match="is for 8-bit RGB images, but these have 3 bands"):
        cache_samples(replace(dataset, bands=3), given, tmp_path)


@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.integers(32, 1000),
    st.floats(0.1, 3.0),
)
def test_resizing_twice_changes_nothing_and_never_enlarges(image_hw, long_side, scale):
    transform = TrainTransform(crop_hw=(32, 32), long_side=long_side, scale=(0.1, scale))
    size_hw = transform.choose_hw(image_hw)
    assert transform.choose_hw(size_hw) == size_hw
    assert all(new <= old for new, old in zip(size_hw, image_hw, strict=True))
