"""Conversion of a foreign dataset to paired folders: masks written once, images linked."""

import json
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from atrous.data.classes_file import FILENAME, format_classes
from atrous.data.image_file import read_image_size
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.data.sample import read_image
from atrous.errors import ConfigError, DataError, did_you_mean
from atrous.formats import ade20k, cityscapes, coco, cvat, folders, labelme, supervisely, yolo
from atrous.formats.source import Item, Source
from atrous.parsing import parse_json

FORMATS = {
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "supervisely": supervisely,
    "coco": coco,
    "labelme": labelme,
    "cvat": cvat,
    "yolo": yolo,
    "folders": folders,
}
"""Modules of the formats by name, in the order in which they are tried."""

RECORD = "import.json"


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Attributes:
        out: The new dataset.
        format: Format of the source, in words.
        classes: Names of the classes.
        num_images: Number of images per split.
        skipped: Reasons why images or annotations were left out, with their numbers.
        is_old: Whether the dataset was there already, from the same files.
    """

    out: Path
    format: str
    classes: tuple[str, ...]
    num_images: dict[str, int]
    skipped: dict[str, int]
    is_old: bool = False


def import_dataset(
    source: Path | str,
    out: Path | str,
    *,
    format: str = "auto",
    val: float = 0.2,
    group: str | None = None,
    seed: int = 0,
    copy: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Convert a dataset of another tool to paired folders with `classes.toml`.

    The new folder appears when it is complete; `import.json` in it names the files of each image.

    Args:
        source: Folder or file that the tool exported.
        out: Folder to create.
        format: A name of `FORMATS`, or `auto` to find out.
        val: Share of the images for validation, if the source has no such split.
        group: Regular expression; images with the same match (its first group, if it has one) stay
            in one split. By default, the name before `.rf.`, which Roboflow's copies share.
        seed: Seed of the random split.
        copy: Copy images instead of linking to them; GIF images become PNG.
        progress: Called after each image with the numbers of images done and in total.

    Raises:
        ConfigError: The format or expression is unknown, or `out` holds something else.
        DataError: The source has no known format, or a file of it cannot be used.
    """
    source, out = Path(source), Path(out)
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"{out} is inside of {source}. Give a folder outside of it.")
    found = read_source(source, format)
    splits = _assign_splits(found.items, val, group, seed)
    names = _name_items(found.items, splits)
    facts = {
        "source": str(source.resolve()),
        "format": found.format,
        "classes": list(found.classes.names),
        "options": {"val": val, "group": group, "seed": seed, "copy": copy},
        "images": {
            f"{splits[i]}/{names[i]}": [_describe(item.image), *map(_describe, item.labels)]
            for i, item in enumerate(found.items)
        },
    }
    counts = dict(sorted(Counter(splits).items()))
    if out.exists() and any(out.iterdir()):
        skipped = _read_record(out, facts)
        return ImportReport(out, found.format, found.classes.names, counts, skipped, is_old=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        skipped = found.skipped + _write(partial, found, splits, names, copy, progress)
        (partial / FILENAME).write_text(format_classes(found.classes), encoding="utf-8")
        record = json.dumps({**facts, "skipped": skipped}, indent=1, ensure_ascii=False)
        (partial / RECORD).write_text(record + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ImportReport(out, found.format, found.classes.names, counts, dict(skipped))


def read_source(path: Path, format: str) -> Source:
    """Read a foreign dataset.

    Raises:
        ConfigError: `format` is unknown.
        DataError: The path does not exist, has no known format, or holds no image.
    """
    if not path.exists():
        raise DataError(f"There is no file or folder {path}.")
    if format not in ("auto", *FORMATS):
        raise ConfigError(f"There is no format '{format}'.{did_you_mean(format, FORMATS)}")
    for name, module in FORMATS.items():
        if format in (name, "auto") and (found := module.find(path)):
            source = module.read(path, found)
            if source.items:
                return source
            skipped = [f"{count} {reason}" for reason, count in source.skipped.items() if count]
            reasons = "; ".join(skipped) or "it lists none"
            raise DataError(
                f"{path} is {source.format}, but no image of it can be used: {reasons}."
            )
    raise DataError(
        f"{path} has no known format. Known are {', '.join(FORMATS)}; give the folder that holds "
        "all files of the export."
    )


def _assign_splits(items: list[Item], val: float, group: str | None, seed: int) -> list[str]:
    if not 0 <= val < 1:
        raise ConfigError(f"--val must be a share from 0 to below 1, not {val}.")
    splits = [item.split for item in items]
    if "val" in splits or val == 0:
        return [split or "train" for split in splits]
    try:
        pattern = re.compile(group or r"^(.*?)\.rf\.")
    except re.error as error:
        raise ConfigError(f"--group '{group}' is no regular expression: {error}.") from None
    keys = []
    for item in items:
        match = pattern.search(item.image.name)
        keys.append((match[1] if match.lastindex else match[0]) if match else str(item.image))
    free = sorted(
        {key for key, split in zip(keys, splits, strict=True) if split in (None, "train")}
    )
    random.Random(seed).shuffle(free)
    held_out = set(free[: round(val * len(free))] if len(free) > 1 else [])
    return [
        split if split == "test" else "val" if key in held_out else "train"
        for key, split in zip(keys, splits, strict=True)
    ]


def _name_items(items: list[Item], splits: list[str]) -> list[str]:
    """Return a stem for each image, unique within its split: with folders where necessary."""
    stems = Counter((split, item.image.stem) for item, split in zip(items, splits, strict=True))
    taken: Counter[tuple[str, str]] = Counter()
    names = []
    for item, split in zip(items, splits, strict=True):
        name = item.image.stem
        if stems[split, name] > 1:
            name = f"{item.image.parent.name}_{name}"
        taken[split, name] += 1
        names.append(name if taken[split, name] == 1 else f"{name}_{taken[split, name]}")
    return names


def _describe(path: Path) -> list[str | int]:
    return [str(path), path.stat().st_size if path.is_file() else 0]


def _read_record(out: Path, facts: Mapping[str, object]) -> dict[str, int]:
    record = out / RECORD
    try:
        stored = parse_json(record.read_text(encoding="utf-8")) if record.is_file() else {}
        skipped = stored.pop("skipped", {})
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{record} cannot be read ({error}). Give a new folder.") from None
    if stored != facts:
        raise ConfigError(
            f"{out} already holds {'another import' if stored else 'other files'}. Give a new "
            "folder, or remove this one."
        )
    return dict(skipped)


def _write(
    folder: Path,
    source: Source,
    splits: list[str],
    names: list[str],
    copy: bool,
    progress: Callable[[int, int], None] | None,
) -> Counter[str]:
    for split in set(splits):
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "masks").mkdir()

    def write(index: int) -> Counter[str]:
        item, skipped = source.items[index], Counter[str]()
        mask = item.load_mask(skipped)
        size_hw = read_image_size(item.image)
        if mask.shape != size_hw:
            raise DataError(
                f"The image {item.image} is {size_hw[1]} × {size_hw[0]} pixels (width × height), "
                f"but its labels are for {mask.shape[1]} × {mask.shape[0]}."
            )
        image = Image.fromarray(mask)
        image.putpalette(source.classes.palette)
        place = folder / splits[index]
        image.save(place / "masks" / f"{names[index]}.png")
        suffix = item.image.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            _link(item.image, place / "images" / f"{names[index]}{suffix}", copy)
        else:
            pixels = read_image(item.image).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(place / "images" / f"{names[index]}.png")
        return skipped

    total: Counter[str] = Counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done, skipped in enumerate(pool.map(write, range(len(names))), start=1):
                total += skipped
                if progress is not None:
                    progress(done, len(names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return total


def _link(image: Path, target: Path, copy: bool) -> None:
    """Link to an image, or copy it where links are not possible."""
    if not copy:
        try:
            os.link(image.resolve(), target)
            return
        except OSError:
            pass
        try:
            target.symlink_to(image.resolve())
            return
        except OSError:
            pass
    shutil.copyfile(image, target)
