"""The training batches of a recipe, starting at any step."""

from collections.abc import Generator
from typing import Any

from atrous.data import Batch, SegmentationDataset, TrainTransform, build_train_loader
from atrous.data.loader import stream_position
from atrous.devices import resolve_device, resolve_workers
from atrous.images.shard_file import File
from atrous.models import ModelCard
from atrous.recipe import DataRecipe, Recipe, TrainRecipe
from atrous.training.distributed import World


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
