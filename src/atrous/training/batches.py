"""The training batches of a recipe, starting at any step."""

from collections.abc import Generator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from atrous.data import Batch, SegmentationDataset, TrainTransform, build_train_loader
from atrous.data.loader import stream_position
from atrous.data.sample_cache import SampleCache
from atrous.data.sizes import measure_sizes
from atrous.devices import resolve_device, resolve_workers
from atrous.errors import ConfigError
from atrous.files import format_bytes, read_free_bytes
from atrous.images.shard_file import File
from atrous.models import ModelCard
from atrous.recipe import DataRecipe, Recipe, TrainRecipe
from atrous.training.distributed import World

_MIN_REDUCTION = 4
"""Pixels of an image per pixel of its sample from which on `auto` takes a cache."""
_SAMPLE_BYTES_PER_PX = 4
"""Red, green, blue and the class."""


def load_batches(
    recipe: Recipe,
    dataset: SegmentationDataset,
    *,
    first_step: int,
    num_steps: int,
    world: World = World(),
    card: ModelCard | None = None,
) -> Generator[Batch]:
    """Return the batches of `num_steps` optimizer steps, `train.accumulate` per step.

    Each process of a world gets its share of every batch.

    The `first_step` steps before are skipped at no cost. A consumer that may stop early closes the
    generator, which ends the worker processes. `card` is needed for images that are not 8-bit RGB.
    """
    settings = recipe.train
    return build_train_loader(
        dataset,
        build_transform(recipe.data, card),
        batch_size=settings.batch_size // world.size,
        seed=settings.seed,
        start_batch=first_step * settings.accumulate,
        num_batches=num_steps * settings.accumulate,
        workers=count_workers(settings, world),
        rank=world.rank,
        world_size=world.size,
    )


def count_workers(settings: TrainRecipe, world: World = World()) -> int:
    """Return the number of processes that load images for this process."""
    return resolve_workers(settings.workers, resolve_device(settings.device), world.local_size)


def list_batch_images(settings: TrainRecipe, dataset: SegmentationDataset, step: int) -> list[File]:
    """Return the image files of a step, `step` being the number of steps before it."""
    num_images = settings.batch_size * settings.accumulate
    return [
        dataset.image_paths[stream_position(position, len(dataset), settings.seed)[1]]
        for position in range(step * num_images, (step + 1) * num_images)
    ]


def cache_samples(
    dataset: SegmentationDataset, data: DataRecipe, folder: Path
) -> SegmentationDataset:
    """Return the training images with a cache of decoded samples, if the recipe wants one.

    Args:
        folder: Folder of the cache with `auto`, which takes one if the samples have at most a
            quarter of the pixels of their files, and at most half of the free disk space.

    Raises:
        ConfigError: A cache in a folder of one's own has no room, or the images are not 8-bit RGB.
    """
    is_auto, is_resized = data.cache == "auto", data.size is not None or data.long_side is not None
    if data.cache == "off" or (is_auto and (dataset.bands is not None or not is_resized)):
        return dataset
    if dataset.bands is not None:
        raise ConfigError(
            f"data.cache = {data.cache} is for 8-bit RGB images, but these have {dataset.bands} "
            "bands at their own depth. Leave data.cache out."
        )
    transform, sizes_hw = build_transform(data), measure_sizes(dataset.image_paths)
    num_pixels, num_kept = (
        sum(height * width for height, width in sizes)
        for sizes in (sizes_hw, map(transform.choose_hw, sizes_hw))
    )
    if not sizes_hw or (is_auto and _MIN_REDUCTION * num_kept > num_pixels):
        return dataset
    facts = (
        version("atrous"), transform.size_hw, transform.long_side, transform.scale[1],
        dataset.num_mask_classes, dataset.ignore_index, dataset.selection,
    )  # fmt: skip
    folder = folder if is_auto else Path(data.cache)
    sample_bytes = _SAMPLE_BYTES_PER_PX * num_kept / len(sizes_hw)
    cache = SampleCache(folder, transform.resize, repr(facts), int(sample_bytes * len(dataset)))
    pairs = zip(dataset.image_paths, dataset.mask_paths, strict=True)
    needed = sample_bytes * sum(not cache.has(*pair) for pair in pairs)
    free = read_free_bytes(folder)
    if is_auto and needed > free / 2:
        return dataset
    if needed > free:
        raise ConfigError(
            f"The decoded images need {format_bytes(needed)} in {folder}, where "
            f"{format_bytes(free)} are free. Free some space, name a folder on a larger disk with "
            "--set data.cache=DIR, or do without with --set data.cache=off."
        )
    return replace(dataset, cache=cache)


def build_transform(data: DataRecipe, card: ModelCard | None = None) -> TrainTransform:
    """Build the transform of training samples.

    Raises:
        ConfigError: The augmentation cannot be used on the bands of the images.
    """
    own = {"scale", "long_side", "flip", "brightness", "contrast", "saturation", "hue"}
    bands: dict[str, Any] = {}
    if card is not None and card.ranges is not None:
        bands = {"ranges": card.ranges, "mean": card.mean}
    return TrainTransform(
        size_hw=data.size_hw,
        crop_hw=None if data.crop is None else (data.crop, data.crop),
        **data.model_dump(include=own),
        **bands,
    )
