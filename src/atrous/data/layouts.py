"""Layouts of datasets on disk: which one a folder has, its splits and their files."""

from pathlib import Path
from typing import Literal

from atrous.bands import Ranges
from atrous.classes import IGNORE_INDEX, VOC_NAMES, Classes, build_classes
from atrous.data import pairs, voc
from atrous.data.classes_file import FILENAME, parse_bands, read_classes_file
from atrous.data.shards import UNFINISHED, Shards, has_shards, open_shards
from atrous.data.split_files import SplitFiles
from atrous.errors import ConfigError, DataError, LayoutError, did_you_mean, shorten
from atrous.images.shard_file import File

Layout = Literal["voc", "pairs", "shards"]
FORMATS = ("auto", "voc", "pairs")

_LAYOUTS = (
    "Three layouts are known. VOC devkit: JPEGImages/NAME.jpg, SegmentationClass/NAME.png and "
    "ImageSets/Segmentation/train.txt. Pairs: train/images/NAME.jpg and train/masks/NAME.png. "
    "Shards: shards.json beside the files of `atrous data shard`."
)


def read_given_bands(root: Path | str, folder: Path | Shards) -> tuple[int | None, Ranges | None]:
    """Return the number of bands and their ranges that `classes.toml` gives; None for neither."""
    if isinstance(folder, Shards):
        return folder.bands
    path = find_classes_file(root, folder)
    return parse_bands(path.read_text(encoding="utf-8-sig"), path) if path else (None, None)


def read_given_classes(
    root: Path | str, layout: Layout, folder: Path | Shards
) -> tuple[Classes, int] | None:
    """Return the classes and ignore index that a dataset defines; None if it defines none.

    `classes.toml` in either folder defines them; data with VOC's file names has VOC's classes.

    Raises:
        DataError: `classes.toml` or a split list cannot be read.
    """
    if isinstance(folder, Shards):
        return folder.classes, folder.ignore_index
    if path := find_classes_file(root, folder):
        return read_classes_file(path)
    if layout == "voc" and voc.has_voc_names(folder):
        return build_classes(VOC_NAMES), IGNORE_INDEX
    return None


def list_splits(root: Path | str, *, format: str = "auto") -> list[str]:
    """Return the names of the splits of a dataset, sorted.

    Raises:
        DataError: The folder is missing.
        LayoutError: The layout is unknown.
    """
    return _list_splits(*find_layout(root, format))


def find_all_files(layout: Layout, folder: Path | Shards) -> dict[str, SplitFiles]:
    """Return the files of every split by its name, complete or not.

    Raises:
        DataError: A split list is unreadable.
    """
    return {split: _find_files(layout, folder, split) for split in _list_splits(layout, folder)}


def list_split_files(
    layout: Layout, folder: Path | Shards, split: str
) -> dict[str, tuple[File, File]]:
    """Return stem → (image, mask) in the order of the split, of what `find_layout` returns.

    Raises:
        DataError: The split does not exist or is empty, an image or mask is missing, or a stem is
            not unique.
    """
    splits = _list_splits(layout, folder)
    if split not in splits:
        hint = " `atrous import` draws one from the training images." * (split == "val")
        known = did_you_mean(split, splits)
        raise DataError(f"There is no split '{split}' in {folder}.{known}{hint}")
    files = _find_files(layout, folder, split)
    if isinstance(folder, Shards):
        return files.pairs
    if not files.names:
        raise DataError(
            f"The split '{split}' of {folder} is empty: no images were found for it."
            f"{pairs.describe_overlooked(files.image_folder, files.mask_folder)}"
        )
    if files.same_stem:
        first, second = files.same_stem[0]
        raise DataError(
            f"Two files with the same stem in {first.parent}: {first.name} and {second.name}. "
            "An image and its mask are matched by stem: rename or remove one of them."
        )
    split_list = voc.find_split_list(folder, split)
    if twice := files.listed_twice:
        raise DataError(f"{split_list} lists {len(twice)} images twice: {shorten(twice)}.")
    incomplete = {
        place: f"{len(missing)} of the {len(files.names)} names of split '{split}' have no {kind} "
        f"in {place}: {shorten(missing)}. "
        for kind, missing, place in (
            ("image", files.without_image, files.image_folder),
            ("mask", files.without_mask, files.mask_folder),
        )
        if missing
    }
    if incomplete:
        is_voc = layout == "voc"
        listed = f" and their names in {split_list}" if is_voc else ""
        suffixes = voc.describe_suffixes(files) if is_voc else ""
        raise DataError(
            f"{''.join(incomplete.values())}Add the missing files, or remove their partners"
            f"{listed}. `atrous check {folder}` shows which files may belong together."
            f"{suffixes}{pairs.describe_overlooked(*incomplete)}"
        )
    return files.pairs


def find_layout(root: Path | str, format: str = "auto") -> tuple[Layout, Path | Shards]:
    """Return the layout of a dataset and the folder that holds it, or the shards.

    Raises:
        DataError: The folder is missing.
        LayoutError: The layout is unknown.
        StorageError: The index of shards cannot be read.
        ConfigError: `format` is unknown.
    """
    if format not in FORMATS:
        raise ConfigError(f"Unknown data format '{format}'.{did_you_mean(format, FORMATS)}")
    if has_shards(root):
        return "shards", open_shards(root)
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Give the folder of the dataset.")
    if format != "pairs" and (devkit := voc.find_devkit(root)):
        return "voc", devkit
    is_yolo = any(root.glob("*/labels")) and not any(root.glob("*/masks"))
    if format != "voc" and pairs.list_pairs_splits(root) and not is_yolo:
        return "pairs", root
    if (root / UNFINISHED).exists():
        raise DataError(
            f"{root} holds unfinished shards: `atrous data shard` was interrupted. Start the same "
            "command again."
        )
    found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    raise LayoutError(
        f"{root} has no layout that can be read; it holds {found}. {_LAYOUTS} Exports "
        f"of labelling tools and other folders: `atrous import {root} OUT`.",
        root,
    )


def find_owner(folder: Path) -> Path | None:
    """Return the folder of a dataset's images or masks that is or contains a folder, if any."""
    for place in (folder, *folder.parents):
        if (pairs.is_part(place) or voc.is_part(place)) and pairs.list_image_files(place):
            return place
    return None


def find_classes_file(root: Path | str, folder: Path) -> Path | None:
    """Return the `classes.toml` of a dataset, in the folder of its layout or in its root."""
    paths = folder / FILENAME, Path(root, FILENAME)
    return next((path for path in paths if path.is_file()), None)


def _list_splits(layout: Layout, folder: Path | Shards) -> list[str]:
    if isinstance(folder, Shards):
        return sorted(folder.splits)
    return voc.list_voc_splits(folder) if layout == "voc" else pairs.list_pairs_splits(folder)


def _find_files(layout: Layout, folder: Path | Shards, split: str) -> SplitFiles:
    if isinstance(folder, Shards):
        return folder.find_files(split)
    return (voc.find_voc_files if layout == "voc" else pairs.find_pairs_files)(folder, split)
