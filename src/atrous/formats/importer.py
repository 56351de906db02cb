"""Conversion of a foreign dataset to paired folders: masks written once, images linked."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, ClassSelection
from atrous.data.classes_file import FILENAME, format_bands, format_classes
from atrous.data.layouts import read_given_bands
from atrous.data.new_folder import replace_folder
from atrous.errors import ConfigError, DataError
from atrous.formats.known import read_source
from atrous.formats.record import describe_files, read_record, write_record
from atrous.formats.source import BACKGROUND, Source
from atrous.formats.splits import assign_splits, check_shares, list_missing
from atrous.formats.writing import name_items, write_pairs
from atrous.parsing import is_plain_name


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Attributes:
        format: Format of the source, in words.
        num_images: Number of images per split.
        skipped: Reasons why images or annotations were left out, with their numbers.
        notes: What was assumed or drawn, as sentences.
        is_old: Whether the dataset was there already, from the same files.
    """

    out: Path
    format: str
    classes: tuple[str, ...]
    num_images: dict[str, int]
    skipped: dict[str, int]
    notes: list[str]
    is_old: bool = False


def import_dataset(
    source: Path | str,
    out: Path | str,
    *,
    format: str = "auto",
    val: float = 0.2,
    test: float = 0.0,
    group: str | None = None,
    seed: int = 0,
    selection: ClassSelection | None = None,
    class_name: str | None = None,
    copy: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Convert a dataset of another tool to paired folders with `classes.toml`.

    The new folder appears when it is complete; `import.json` in it names the files of each image.
    `bands` and `range` of a `classes.toml` in the source are kept.

    Args:
        format: A name of `known.FORMATS`, or `auto` to find out.
        val, test: Share of the images for validation and testing, where the source has no split.
        group: Regular expression; images whose names have the same match (its first group, if it
            has one) stay in one split. By default, those of a numbered series do if successive
            ones look alike. Near-duplicates and copies always do, unless nearly all are alike.
        selection: Classes to keep, merge and ignore. If it lists classes without `background` and
            no other class, pixels of the remaining ones become `background` where there is one.
        class_name: New name of the only class besides `background`.
        copy: Copy images instead of linking to them; GIF images become PNG.

    Raises:
        ConfigError: An option is invalid, or `out` holds something else.
        DataError: The source has no known format, a file of it cannot be used, or no pixel has a
            label.
    """
    source, out = Path(source), Path(out)
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"{out} is inside of {source}. Give a folder outside of it.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file. Give a new folder.")
    check_shares(val, test)
    found = read_source(source, format)
    chosen, classes, table = _choose_classes(found, selection or ClassSelection(), class_name)
    bands = format_bands(*read_given_bands(source, source))
    options = {"val": val, "test": test, "group": group, "seed": seed, "copy": copy}
    facts = {
        "source": str(source.resolve()),
        "format": found.format,
        "classes": list(classes.names),
        "options": {**options, "selection": asdict(chosen)},
        **({"bands": bands} if bands else {}),
    }
    files = [describe_files(item) for item in found.items]
    if out.exists() and any(out.iterdir()):
        stored = read_record(out, facts, files)
        return ImportReport(out, found.format, classes.names, *stored, is_old=True)
    shares = list_missing(found.items, val, test)
    num_steps = len(found.items) * (2 if shares else 1)

    def advance(done: int, total: int) -> None:
        if progress is not None:
            progress(done, num_steps)

    splits, notes = assign_splits(found.items, source, shares, group, seed, advance)
    names, notes = name_items(found.items, splits), found.notes + notes
    num_images = {split: splits.count(split) for split in sorted(set(splits))}
    with replace_folder(out) as partial:
        start = num_steps - len(names)
        left_out, has_labels = write_pairs(
            partial, found.items, names, classes, table, copy, lambda d, t: advance(start + d, t)
        )
        skipped = found.skipped + left_out
        if not has_labels:
            raise DataError(_describe_empty(source, found, skipped))
        (partial / FILENAME).write_text(format_classes(classes) + bands, encoding="utf-8")
        write_record(partial, facts, dict(zip(names, files, strict=True)), skipped, notes)
    return ImportReport(out, found.format, classes.names, num_images, dict(skipped), notes)


def _choose_classes(
    source: Source, selection: ClassSelection, class_name: str | None
) -> tuple[ClassSelection, Classes, np.ndarray]:
    """Return the selection that was applied, its classes, and the new value of all 256 values."""
    _check_names(source.classes.names)
    classes = source.classes
    if class_name is not None:
        if len(classes) != 2 or classes.names[0] != BACKGROUND:
            raise ConfigError(
                f"--class {class_name} names the only class besides {BACKGROUND}, but the source "
                f"has {', '.join(classes.names)}. Use --merge {class_name}=A,B for several."
            )
        classes = replace(classes, names=(BACKGROUND, class_name))
    names = selection.names
    if names and selection.other is None and BACKGROUND in {*classes.names} - {*names}:
        selection = replace(selection, other=BACKGROUND)
        source.notes.append(f"Pixels of other classes than {', '.join(names)} are {BACKGROUND}.")
    selected, indices = selection.apply(classes)
    table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, np.uint8)
    table[: len(indices)] = indices
    return selection, selected, table


def _describe_empty(path: Path, source: Source, skipped: Counter[str]) -> str:
    reasons = "".join(f" Left out: {reason}: {count}." for reason, count in skipped.items())
    return (
        f"{path}: none of the {len(source.items)} images has a labelled pixel ({source.format})."
        f"{reasons} Export polygons or masks: boxes alone do not label pixels."
    )


def _check_names(names: Sequence[str]) -> None:
    if wrong := [name for name in names if not name or not is_plain_name(name)]:
        raise DataError(
            f"The source has a class named {wrong[0]!a}. A name is one line of printable "
            "characters: rename it in the source."
        )
    if len(names) > IGNORE_INDEX:
        raise DataError(
            f"The source has {len(names)} classes; masks hold up to {IGNORE_INDEX}. Merge or leave "
            "out classes in the labelling tool."
        )
