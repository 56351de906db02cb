"""What the values and colours of mask files mean: classes of a table, known colours, objects."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.data.classes_file import FILENAME, read_classes_file
from atrous.data.object_ids import are_object_ids, find_scattered
from atrous.data.palettes import format_color
from atrous.errors import DataError, shorten
from atrous.formats.class_tables import read_class_table
from atrous.formats.mask_files import FIRST_COLOR, GREY, read_values, to_color
from atrous.formats.mask_tables import Meaning, Summary, read_colors, read_table
from atrous.formats.source import BACKGROUND, map_on_all_cores

_MAX_VALUES = 4096
_MAX_COUNTED = 1 << 16
_IGNORED = {-1, IGNORE_INDEX, 65535}


def find_meaning(root: Path, masks: Sequence[Path], are_objects: bool | None) -> Meaning:
    """Find out what the values of masks mean.

    `classes.toml` or another table of names says it. Without one, values that number objects are
    one class; 0 and another value are background and foreground; other indices are classes in
    their order; colours are those of a known dataset, or classes in their order.

    Args:
        root: Folder of the dataset, with the table.
        masks: All masks.
        are_objects: Whether values number objects; None to find out.

    Raises:
        DataError: A mask cannot be read, or its values have no meaning.
    """
    given = root / FILENAME
    table = None if given.is_file() else read_class_table(root)
    in_colors = table is not None and any(row.color for row in table[1])
    summaries = map_on_all_cores(partial(_summarize, in_colors=in_colors), masks)
    values = {value for counts, _ in summaries for value in counts}
    greys = {_to_grey(value) for value in values}
    if not in_colors and min(values) < FIRST_COLOR <= max(greys):  # palettes among colours
        in_colors = True
        summaries = map_on_all_cores(partial(_summarize, in_colors=True), masks)
    if are_objects is None and not table and not given.is_file():
        are_objects = _number_objects(summaries)
    if are_objects:
        return _build_objects(values)
    if given.is_file():
        classes, ignore_index = read_classes_file(given)
        indices = {index: index for index in range(len(classes))} | {ignore_index: IGNORE_INDEX}
        meaning = Meaning(classes, indices)
    elif max(greys) >= FIRST_COLOR or (in_colors and min(values) >= FIRST_COLOR):
        return read_colors(root, summaries, table)
    elif table:
        meaning = read_table(*table, greys)
    else:
        meaning = _number(root, greys)
    if unknown := sorted(greys - meaning.indices.keys() - _IGNORED):
        where = given if given.is_file() else table[0] if table else root
        listed = shorten([_name_value(value) for value in unknown])
        raise DataError(
            f"The masks below {root} have values that {where} does not name: {listed}. Add their "
            "names there."
        )
    colors = {FIRST_COLOR + GREY * v: i for v, i in meaning.indices.items() if 0 <= v < 256}
    return replace(meaning, indices=meaning.indices | colors, in_colors=in_colors)


def _summarize(path: Path, *, in_colors: bool) -> Summary:
    values = read_values(path, in_colors=in_colors)
    if values.min() >= 0 and values.max() < _MAX_COUNTED:  # fast, and nearly always
        counts = np.bincount(values.ravel())
        unique = np.flatnonzero(counts)
        counts = counts[unique]
    else:
        unique, counts = np.unique(values, return_counts=True)
    if len(unique) > _MAX_VALUES:
        raise DataError(
            f"The mask {path} has {len(unique)} different values. A mask has one value or colour "
            "per class: JPEG and smoothed masks cannot be imported. Export it as PNG."
        )
    numbers = dict(zip(unique.tolist(), counts.tolist(), strict=True))
    may_be_objects = unique[-1] < FIRST_COLOR and numbers.keys() - {0, IGNORE_INDEX}
    return numbers, find_scattered(values) if may_be_objects else frozenset()


def _to_grey(value: int) -> int:
    """Return the brightness of a grey colour, and any other value as it is."""
    is_grey = value >= FIRST_COLOR and (value - FIRST_COLOR) % GREY == 0
    return value & 255 if is_grey else value


def _name_value(value: int) -> str:
    return str(value) if value < FIRST_COLOR else format_color(to_color(value))


def _number_objects(summaries: Sequence[Summary]) -> bool:
    if any(value >= FIRST_COLOR for counts, _ in summaries for value in counts):
        return False
    return are_object_ids(
        [(counts.keys() - {0, IGNORE_INDEX}, scattered) for counts, scattered in summaries]
    )


def _build_objects(values: set[int]) -> Meaning:
    indices = {value: int(value not in (0, FIRST_COLOR)) for value in values}
    note = (
        "The values of the masks were taken as numbers of objects: all above 0 are one class, "
        "which --class NAME names. Values that are classes need their names in classes.txt."
    )
    ids = values - {0, IGNORE_INDEX}
    if IGNORE_INDEX in values and ids and max(ids) < IGNORE_INDEX - 1:
        indices[IGNORE_INDEX] = IGNORE_INDEX
        note += " 255 is ignored."
    return Meaning(build_classes([BACKGROUND, "object"]), indices, [note])


def _number(root: Path, values: set[int]) -> Meaning:
    """Return the meaning of indices without names: background and foreground, or numbers."""
    if values in ({0, 65535}, {65535}) or values <= {0, 1, IGNORE_INDEX}:
        top = IGNORE_INDEX if 1 in values else 1
        return Meaning(
            build_classes([BACKGROUND, "foreground"]), {0: 0, IGNORE_INDEX: top, 65535: 1, 1: 1}
        )
    ordered = sorted(values - _IGNORED)
    if len(ordered) > IGNORE_INDEX:
        raise DataError(
            f"The masks below {root} have {len(ordered)} different values, which is too many for "
            "classes. If they number objects, use --format instances."
        )
    names = [str(value) for value in ordered]
    note = f"No names were found: classes are named by their mask values, {shorten(names)}."
    return Meaning(
        build_classes(names),
        {value: index for index, value in enumerate(ordered)},
        [f"{note} Write the names into classes.txt, one a line, to have them."],
    )
