"""Models of the folds of a split: each is trained on the other folds and has not seen its own."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.data import SegmentationDataset, open_dataset
from atrous.data.classes_file import FILENAME, format_bands, format_classes
from atrous.data.new_folder import replace_folder
from atrous.engines import TTA, Engine, open_engine
from atrous.errors import ConfigError
from atrous.evaluation import calibrate
from atrous.formats.grouping import group_images
from atrous.recipe import Recipe
from atrous.run import RunFolder
from atrous.training.log import Listener, note
from atrous.training.session import train


@dataclass(frozen=True)
class Folds:
    """A split, and a model for each of its folds; iteration opens one model after the other.

    Attributes:
        parts: Weights file and images of each fold.
        flip: Whether predictions are averaged with those of the mirrored image.
    """

    dataset: SegmentationDataset
    parts: tuple[tuple[Path, SegmentationDataset], ...]
    device: str
    flip: bool

    def __iter__(self) -> Iterator[tuple[Engine, SegmentationDataset]]:
        for path, part in self.parts:
            engine = open_engine(path, device=self.device, tta=TTA(flip=self.flip))
            yield engine, part.read_as(engine.card.ranges)


def train_folds(recipe: Recipe, num_folds: int, out: Path, *, listener: Listener) -> Folds:
    """Train a model on all folds of the training split but one, for each fold, and calibrate it.

    Related images (`group_images`) are in one fold. The models are the last ones, since the best
    are chosen by their own fold. `OUT/data` has links to the images and lists of the folds;
    `OUT/fold-1` and so on are run folders. The same call resumes them.

    Args:
        recipe: Data, model and duration. Its validation split is not used.
        listener: Called with the events of each training, and with notes.

    Raises:
        ConfigError: There are too few images, or `out` holds other folds.
        DataError: The split cannot be used, or has changed since the trainings started.
        KeyboardInterrupt: A training was interrupted.
    """
    data, root = recipe.data, out / "data"
    dataset = open_dataset(
        data.root, data.train_split, format=data.format, ignore_index=data.ignore_index
    )
    folds = split_folds(dataset, num_folds, listener)
    write_folds(dataset, folds, root)
    settings = recipe.train.model_copy(update={"validate_every": recipe.train.duration})
    dataset, parts = dataset.select(data.class_selection), []
    for number, members in enumerate(folds, start=1):
        run, split = RunFolder(out / f"fold-{number}"), f"fold-{number}"
        own = {"root": str(root), "format": "voc", "ignore_index": None, "val_split": split}
        own["train_split"] = f"without-{number}"
        sections = {"data": data.model_copy(update=own), "train": settings}
        note(listener, f"Fold {number} of {num_folds}: {run.path}")
        result = train(recipe.model_copy(update=sections), run.path, listener=listener)
        if result.reason != "finished":
            place = f"step {result.step} of {result.total_steps} of {run.path}"
            note(listener, f"Stopped at {place}. Start the same command to go on.")
            raise KeyboardInterrupt
        calibrate(run.last, root, split=split, format="voc", device=settings.device)
        parts.append((run.last, dataset.take(members)))
    return Folds(dataset, tuple(parts), settings.device, data.flip > 0)


def split_folds(
    dataset: SegmentationDataset, num_folds: int, listener: Listener
) -> list[list[int]]:
    """Return the indices of the images of each fold, of nearly equal size.

    Raises:
        ConfigError: There are fewer than two folds, or fewer groups of images than folds.
    """
    if num_folds < 2:
        raise ConfigError(f"--folds {num_folds} leaves no images to train on: give 2 or more.")
    images = [path for path in dataset.image_paths if isinstance(path, Path)]
    if dataset.format == "shards":
        raise ConfigError(
            f"--folds needs images in files, but {dataset.root} has shards. Give the folder that "
            "they were made from."
        )
    outside = len(images) - len(images) // 2
    groups, messages = group_images(images, Path(dataset.root), None, outside, None)
    for message in messages:
        note(listener, message)
    if num_folds > len(groups):
        raise ConfigError(
            f"--folds {num_folds} needs {num_folds} images that are not related, but the split "
            f"'{dataset.split}' of {dataset.root} has {len(groups)}, near-duplicates and series of "
            "names counted as one. Give a smaller number."
        )
    random.Random(0).shuffle(groups)
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for group in sorted(groups, key=len, reverse=True):
        min(folds, key=len).extend(group)
    return [sorted(fold) for fold in folds]


def write_folds(dataset: SegmentationDataset, folds: Sequence[Sequence[int]], out: Path) -> None:
    """Write a VOC devkit of links, with the splits `fold-1`, `without-1`, `fold-2` and so on.

    Raises:
        ConfigError: The folder holds other folds.
    """
    names = [
        f"{index:06}_{re.sub(r'[^a-zA-Z0-9]+', '-', name)}"
        for index, name in enumerate(dataset.names)
    ]
    classes = format_classes(dataset.classes, dataset.ignore_index)
    texts = {Path(FILENAME): classes + format_bands(dataset.bands, dataset.ranges)}
    lists = Path("ImageSets", "Segmentation")
    for number, members in enumerate(folds, start=1):
        others = sorted({*range(len(names))} - {*members})
        for split, indices in (("fold", members), ("without", others)):
            text = "".join(f"{names[index]}\n" for index in indices)
            texts[lists / f"{split}-{number}.txt"] = text
    if out.exists():
        found = {
            path.relative_to(out): path.read_text(encoding="utf-8")
            for path in (out / FILENAME, *(out / lists).glob("*"))
            if path.is_file()
        }
        if found != texts:
            raise ConfigError(
                f"{out} holds other folds: of other images or classes, or another number of them. "
                "Give another --out, or remove the folder of these."
            )
        return
    with replace_folder(out) as partial:
        for folder in (lists, "JPEGImages", "SegmentationClass"):
            (partial / folder).mkdir(parents=True)
        for path, text in texts.items():
            (partial / path).write_text(text, encoding="utf-8")
        for name, image, mask in zip(names, dataset.image_paths, dataset.mask_paths, strict=True):
            for file, folder in ((image, "JPEGImages"), (mask, "SegmentationClass")):
                link = partial / folder / f"{name}{file.suffix}"
                link.symlink_to(Path(str(file)).absolute())
