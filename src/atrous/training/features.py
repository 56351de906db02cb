"""Cache of frozen features: one memory-mapped safetensors file per training image."""

import hashlib
import json
from collections.abc import Callable, Generator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from atrous.data import SegmentationDataset, TrainTransform, build_eval_loader
from atrous.data.loader import stream_position
from atrous.errors import ConfigError
from atrous.files import format_bytes, read_free_bytes, write_atomically
from atrous.models.cut import Cut
from atrous.recipe import DataRecipe, Recipe
from atrous.seeds import compute_seed
from atrous.training.batches import build_transform, count_workers

ComputeFeatures = Callable[[Tensor], list[Tensor]]


class FeatureBatch(NamedTuple):
    """A batch of cached features.

    Attributes:
        features: Per feature map, float (B, channels, height, width).
        mask: uint8 (B, H, W), ignored pixels 255.
    """

    features: list[Tensor]
    mask: Tensor
    names: list[str]


def uses_feature_cache(recipe: Recipe) -> bool:
    """Return whether a recipe caches features; it depends on the recipe alone."""
    wanted = recipe.model.freeze != "none" and recipe.train.feature_cache == "auto"
    return wanted and find_obstacle(recipe.data) is None


def find_obstacle(data: DataRecipe) -> str | None:
    """Return why the inputs of the frozen part differ between epochs, or None if they do not."""
    if data.size_hw is None:
        return f"data.crop = {data.crop} scales and crops at random; --size {data.crop} would not"
    colors = ("brightness", "contrast", "saturation", "hue")
    random = [f"data.{name} = {getattr(data, name)}" for name in colors if getattr(data, name)]
    return f"{', '.join(random)} changes the colours at random; 0 would not" if random else None


class FeatureCache:
    """Features and masks of all training images, also of their mirror images if the recipe flips.

    The name of the folder is a hash of everything that the features depend on, so that a cache is
    never used for other features. Files are written atomically: those that exist are complete, and
    an interrupted build continues with the missing ones.

    Args:
        recipe: The recipe, with `data.size`.
        folder: Parent folder of the cache.
        compute: Computes the features of images (batch, bands, H, W), in evaluation mode.
        frozen_sha256: SHA-256 of the frozen weights and statistics.

    Attributes:
        path: Folder of the cache.
        num_copies: 2 with mirror images, else 1.
        file_bytes, num_bytes: Size of each file, and of the complete cache.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        dataset: SegmentationDataset,
        *,
        cut: Cut,
        compute: ComputeFeatures,
        frozen_sha256: str,
    ) -> None:
        assert recipe.data.size_hw is not None
        self.recipe, self.dataset, self.compute = recipe, dataset, compute
        self.place, self.size_hw = cut.place, recipe.data.size_hw
        self.num_copies = 2 if recipe.data.flip > 0 else 1
        black = torch.zeros(1, dataset.bands or 3, *self.size_hw, dtype=torch.uint8)
        copies = [compute(black) for _ in range(self.num_copies)]
        self._dtypes = [feature.dtype for feature in copies[0]]
        self.file_bytes = len(save(_pack(copies, black[:, 0])[0]))
        paths = (*dataset.image_paths, *dataset.mask_paths)
        self.facts = {
            "atrous": version("atrous"),
            "network": _sha256(repr(cut.frozen_modules)),
            "frozen_part": frozen_sha256,
            "cut_before": cut.place,
            "precision": recipe.train.precision,
            "maps_chw": [tuple(feature.shape[1:]) for feature in copies[0]],
            "size_hw": self.size_hw,
            "mirror_images": self.num_copies == 2,
            "data": dataset.fingerprint(),
            "files": _sha256("".join(_sha256(path.read_bytes()) for path in paths)),
        }
        if dataset.ranges is not None:
            self.facts["ranges"] = dataset.ranges
        self.path = folder / _sha256(json.dumps(self.facts, sort_keys=True))[:32]
        self.num_bytes = self.file_bytes * len(dataset)

    def compute_missing_bytes(self) -> int:
        """Return the size of the files that are missing."""
        return self.file_bytes * len(self._find_missing())

    def check_disk_space(self) -> None:
        """Raise a ConfigError if the features do not fit on disk."""
        folder, needed = self.path.parent, self.compute_missing_bytes()
        if needed > (free := read_free_bytes(folder)):
            copies = " and their mirror images" if self.num_copies == 2 else ""
            raise ConfigError(
                f"The features of {len(self.dataset)} images{copies} need {format_bytes(needed)} "
                f"in {folder}, where {format_bytes(free)} are free. Free some space, name a folder "
                "on a larger disk with --feature-cache DIR, give a smaller --size, or disable the "
                "cache with --feature-cache off."
            )

    def build(
        self, *, should_stop: Callable[[], bool], progress: Callable[[int, int], None]
    ) -> None:
        """Compute and write the missing files.

        Args:
            should_stop: Checked after each batch; if true, the build ends.
            progress: Called with the number of images done and their total.

        Raises:
            ConfigError: The folder cannot be written, or the disk is full.
            DataError: An image cannot be read.
        """
        missing, num_images = self._find_missing(), len(self.dataset)
        # Whole batches, so that an interruption does not change what is computed together.
        size = self.recipe.train.batch_size
        all_batches = (range(n, min(n + size, num_images)) for n in range(0, num_images, size))
        batches = [batch for batch in all_batches if not missing.isdisjoint(batch)]
        try:
            if missing:
                self.path.mkdir(parents=True, exist_ok=True)
                self._write("facts.json", json.dumps(self.facts, indent=2).encode())
            with closing(self._compute_batches(batches)) as computed:
                for batch, records in computed:
                    for index, record in zip(batch, records, strict=True):
                        self._write(f"{index:06d}.safetensors", save(record))
                    missing.difference_update(batch)
                    progress(num_images - len(missing), num_images)
                    if should_stop():
                        return
        except OSError as error:
            raise ConfigError(
                f"The features cannot be written to {self.path}: {error}. Free some space, name "
                "another folder with --feature-cache DIR, or disable the cache with "
                "--feature-cache off."
            ) from error

    def load_batches(self, *, first_step: int, num_steps: int) -> Generator[FeatureBatch]:
        """Yield the same samples as `batches.load_batches`, with features instead of images."""
        settings = self.recipe.train
        transform = build_transform(self.recipe.data)
        step_size = settings.accumulate * settings.batch_size
        first, last = first_step * step_size, (first_step + num_steps) * step_size
        for start in range(first, last, settings.batch_size):
            samples = [
                stream_position(position, len(self.dataset), settings.seed)
                for position in range(start, start + settings.batch_size)
            ]
            records = [
                self._read(index, transform.is_flipped(compute_seed(settings.seed, epoch, index)))
                for epoch, index in samples
            ]
            *features, mask = (torch.stack(parts) for parts in zip(*records, strict=True))
            maps = zip(features, self._dtypes, strict=True)
            yield FeatureBatch(
                [feature.permute(0, 3, 1, 2).to(dtype) for feature, dtype in maps],
                mask,
                [self.dataset.names[index] for _, index in samples],
            )

    def _read(self, index: int, mirrored: bool) -> list[Tensor]:
        """Read the feature maps (height, width, channels) and the mask of an image."""
        with safe_open(self.path / f"{index:06d}.safetensors", "pt") as file:
            keys = [f"{int(mirrored)}.{number}" for number in range(len(self._dtypes))]
            mask = file.get_tensor("mask")
            return [*map(file.get_tensor, keys), mask.flip(-1) if mirrored else mask]

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self.path / name, lambda file: file.write(content))

    def _find_missing(self) -> set[int]:
        paths = self.path.glob("*.safetensors")
        complete = {path.name for path in paths if path.stat().st_size == self.file_bytes}
        indices = range(len(self.dataset))
        return {index for index in indices if f"{index:06d}.safetensors" not in complete}

    def _compute_batches(
        self, batches: list[range]
    ) -> Generator[tuple[range, list[dict[str, Tensor]]]]:
        """Compute batches of images: their indices, and one record per image."""
        dataset, indices = self.dataset, [index for batch in batches for index in batch]
        resize = TrainTransform(size_hw=self.size_hw, flip=0)
        loader = build_eval_loader(dataset.take(indices), workers=count_workers(self.recipe.train))
        with closing(loader) as loaded:
            for batch in batches:
                samples = [resize(next(loaded), 0) for _ in batch]
                image = torch.stack([sample.image for sample in samples])
                mask = torch.stack([sample.mask for sample in samples])
                copies = (image, image.flip(-1))[: self.num_copies]
                yield batch, _pack([self.compute(copy) for copy in copies], mask)


def _pack(copies: list[list[Tensor]], mask: Tensor) -> list[dict[str, Tensor]]:
    """Return the records of a batch: features in bfloat16 and channels last, and masks."""
    records: list[dict[str, Tensor]] = [{"mask": one.contiguous()} for one in mask]
    for number, features in enumerate(copies):
        for position, feature in enumerate(features):
            kept = feature.permute(0, 2, 3, 1).to("cpu", torch.bfloat16)
            for record, one in zip(records, kept, strict=True):
                record[f"{number}.{position}"] = one.contiguous()
    return records


def make_random_batch(
    compute: ComputeFeatures, image_chw: tuple[int, int, int], batch_size: int
) -> FeatureBatch:
    """Return a batch of features of random images, for measurements."""
    image = torch.randint(256, (batch_size, *image_chw), dtype=torch.uint8)
    features = [feature.cpu().clone() for feature in compute(image)]
    return FeatureBatch(features, torch.zeros_like(image[:, 0]), ["random"] * batch_size)


def _sha256(content: str | bytes) -> str:
    content = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(content).hexdigest()
