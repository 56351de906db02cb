"""Features of all training pictures, computed once: a frozen part always gives the same."""

import hashlib
import json
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from atrous.data import SegmentationDataset, TrainTransform, build_eval_loader
from atrous.data.loader import stream_position
from atrous.errors import ConfigError
from atrous.files import write_atomically
from atrous.recipe import DataRecipe, Recipe
from atrous.seeds import compute_seed
from atrous.training.batches import build_transform
from atrous.training.feature_file import FeatureFile, FeatureLayout, compute_free_bytes

if TYPE_CHECKING:
    from atrous.training.learner import Learner


class FeatureBatch(NamedTuple):
    """Samples of which the frozen part has already been computed.

    Attributes:
        features: Per map, float (B, channels, height, width).
        mask: uint8 (B, H, W), void 255.
        names: B file stems.
    """

    features: list[Tensor]
    mask: Tensor
    names: list[str]


def uses_feature_cache(recipe: Recipe) -> bool:
    """Return whether a recipe's features are computed once; a function of the recipe alone."""
    wanted = recipe.model.freeze != "none" and recipe.train.feature_cache == "auto"
    return wanted and find_obstacle(recipe.data) is None


def find_obstacle(data: DataRecipe) -> str | None:
    """Return why the frozen part sees other pictures in every epoch, or None if it does not."""
    if data.size_hw is None:
        return f"data.crop = {data.crop} scales and cuts at random; --size {data.crop} would not"
    colors = ("brightness", "contrast", "saturation", "hue")
    random = [f"data.{name} = {getattr(data, name)}" for name in colors if getattr(data, name)]
    return f"{', '.join(random)} changes the colours at random; 0 would not" if random else None


class FeatureCache:
    """Batches of features instead of pictures, from a file that is made once.

    The name of the file follows from all that the features depend on, so that others are never
    taken for them.

    Args:
        recipe: Says how the pictures are sized and flipped, and how many make a batch.
        folder: Where the file is, or will be.
        dataset: The pictures.
        learner: Has the frozen part, sealed.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, dataset: SegmentationDataset, learner: "Learner"
    ) -> None:
        cut, frozen_part = learner.cut, learner.frozen
        assert cut is not None
        assert frozen_part is not None
        self.recipe, self.folder, self.dataset = recipe, folder, dataset
        self.compute = learner.compute_features
        layout = measure_layout(recipe, learner)
        frozen = (cut.model.backbone, cut.model.head)[: 1 if cut.place == "head" else 2]
        self.facts = {
            "atrous": version("atrous"),
            "network": _sha256(repr(frozen)),
            "frozen_part": frozen_part.sha256,
            "cut_before": cut.place,
            "precision": recipe.train.precision,
            "maps_hwc": layout.maps_hwc,
            "size_hw": layout.size_hw,
            "mirror_images": layout.num_copies == 2,
            "data": dataset.fingerprint(),
            "files": _compute_content_sha256(dataset),
        }
        key = _sha256(json.dumps(self.facts, sort_keys=True))[:32]
        self.file = FeatureFile(folder / f"{key}.features", layout, len(dataset))

    def check_room(self) -> None:
        """Refuse to begin what the disk has no room for.

        Raises:
            ConfigError: It has not; the message says how much is needed.
        """
        needed, free = self.file.compute_missing_bytes(), compute_free_bytes(self.folder)
        if needed > free:
            copies = " and their mirror images" if self.file.layout.num_copies == 2 else ""
            raise ConfigError(
                f"The features of {len(self.dataset)} pictures{copies} need "
                f"{format_bytes(needed)} in {self.folder}, where {format_bytes(free)} are free. "
                "Make room, name a folder on a larger disk with --feature-cache DIR, choose a "
                "smaller --size, or compute them in every epoch with --feature-cache off."
            )

    def build(self, *, should_stop: Callable[[], bool], on_progress: Callable[[int], None]) -> None:
        """Compute and write what is missing; killed or stopped, it goes on there the next time.

        Raises:
            ConfigError: The folder cannot be written, or its disk is full.
            DataError: A picture cannot be read.
        """
        if self.file.is_whole:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.facts, indent=2)
            write_atomically(
                self.file.path.with_suffix(".json"), lambda file: file.write(text.encode())
            )
            self.file.write(self._compute_records, should_stop=should_stop, on_progress=on_progress)
        except OSError as error:
            raise ConfigError(
                f"The features cannot be written to {self.folder}: {error}. Make room or name "
                "another folder with --feature-cache DIR, or compute them in every epoch with "
                "--feature-cache off."
            ) from error

    def load_batches(self, *, first_step: int, num_steps: int) -> Generator[FeatureBatch]:
        """Yield the same samples as `load_batches` does, with features in place of pictures."""
        settings, num_samples = self.recipe.train, len(self.dataset)
        transform = build_transform(self.recipe.data)
        first, last = (
            step * settings.accumulate * settings.batch_size
            for step in (first_step, first_step + num_steps)
        )
        for start in range(first, last, settings.batch_size):
            places = [
                stream_position(position, num_samples, settings.seed)
                for position in range(start, start + settings.batch_size)
            ]
            mirrored = [
                transform.is_flipped(compute_seed(settings.seed, epoch, index))
                for epoch, index in places
            ]
            pictures = [index for _, index in places]
            features, mask = self.file.read(pictures, mirrored)
            yield FeatureBatch(features, mask, [self.dataset.names[index] for index in pictures])

    def _compute_records(self, first: int) -> Generator[Tensor]:
        dataset, layout = self.dataset, self.file.layout
        rest = replace(
            dataset,
            names=dataset.names[first:],
            image_paths=dataset.image_paths[first:],
            mask_paths=dataset.mask_paths[first:],
        )
        resize = TrainTransform(size_hw=layout.size_hw, flip=0)
        batch_size = self.recipe.train.batch_size
        images: list[Tensor] = []
        masks: list[Tensor] = []
        with closing(build_eval_loader(rest, workers=self.recipe.train.workers)) as samples:
            for sample in samples:
                resized = resize(sample, 0)
                images.append(resized.image)
                masks.append(resized.mask)
                if len(images) == batch_size or first + len(images) == len(dataset):
                    first += len(images)
                    image = torch.stack(images)
                    seen = (image, image.flip(-1))[: layout.num_copies]
                    yield layout.pack([self.compute(copy) for copy in seen], torch.stack(masks))
                    images, masks = [], []


def measure_layout(recipe: Recipe, learner: "Learner") -> FeatureLayout:
    """Find out what one picture's features look like, by computing those of a black one."""
    size_hw = recipe.data.size_hw
    assert size_hw is not None
    features = learner.compute_features(torch.zeros(1, 3, *size_hw, dtype=torch.uint8))
    return FeatureLayout(
        maps_hwc=tuple((*feature.shape[2:], feature.shape[1]) for feature in features),
        dtypes=tuple(feature.dtype for feature in features),
        size_hw=size_hw,
        num_copies=2 if recipe.data.flip > 0 else 1,
    )


def make_random_batch(layout: FeatureLayout, batch_size: int) -> FeatureBatch:
    """Return features of no picture, to measure the speed with."""
    features = [
        torch.rand(batch_size, height, width, channels).permute(0, 3, 1, 2).to(dtype)
        for (height, width, channels), dtype in zip(layout.maps_hwc, layout.dtypes, strict=True)
    ]
    mask = torch.zeros(batch_size, *layout.size_hw, dtype=torch.uint8)
    return FeatureBatch(features, mask, ["random"] * batch_size)


def format_bytes(num_bytes: float) -> str:
    """Write a number of bytes as 3.1 MB, 41 GB and so on."""
    for unit in ("kB", "MB", "GB"):
        num_bytes /= 1000
        if num_bytes < 1000 or unit == "GB":
            break
    return f"{num_bytes:.1f} {unit}" if num_bytes < 10 else f"{num_bytes:.0f} {unit}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _compute_content_sha256(dataset: SegmentationDataset) -> str:
    digest = hashlib.sha256()
    for path in (*dataset.image_paths, *dataset.mask_paths):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def describe_features(cache: FeatureCache) -> dict[str, Any]:
    """Return what a person wants to know of the cache before it is built."""
    return {
        "num_pictures": len(cache.dataset),
        "mirror_images": cache.file.layout.num_copies == 2,
        "num_bytes": cache.file.num_bytes,
        "missing_bytes": cache.file.compute_missing_bytes(),
        "path": str(cache.folder),
        "cut_before": f"the {cache.facts['cut_before']}",
    }
