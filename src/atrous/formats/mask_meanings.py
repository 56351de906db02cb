"""What the values and colours of mask files mean: classes of a table, known colours, objects."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, Color, build_classes, voc_color
from atrous.data.classes_file import FILENAME, NamedClass, read_classes_file
from atrous.data.object_ids import are_object_ids, find_scattered
from atrous.data.palettes import BLACK, build_table, format_color, match_table
from atrous.errors import DataError, shorten
from atrous.formats.class_tables import read_class_table
from atrous.formats.mask_files import FIRST_COLOR, GREY, read_values, to_color
from atrous.formats.source import BACKGROUND, map_on_all_cores

_MAX_VALUES = 4096
_MAX_COUNTED = 1 << 16
_IGNORED = {-1, IGNORE_INDEX, 65535}

Summary = tuple[dict[int, int], frozenset[int]]
"""Of a mask: value → pixels, and the values with more than one connected region."""


@dataclass(frozen=True)
class Meaning:
    """What the values of masks mean."""

    classes: Classes
    indices: dict[int, int]  # by value, as of `read_values`; others are ignored
    notes: list[str] = field(default_factory=list)  # what was assumed, as sentences
    in_colors: bool = False  # palette masks are read by their colours


def find_meaning(root: Path, masks: Sequence[Path], are_objects: bool | None) -> Meaning:
    """Find out what the values of masks mean.

    `classes.toml` or another table of names says it. Without one, values that number objects are
    one class; 0 and another value are background and foreground; other indices are classes in
    their order; colours are those of a known dataset, or classes in their order.

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
        ids = [(counts.keys() - {0, IGNORE_INDEX}, scattered) for counts, scattered in summaries]
        are_objects = max(values) < FIRST_COLOR and are_object_ids(ids)
    if are_objects:
        return _build_objects(values)
    if given.is_file():
        classes, ignore_index = read_classes_file(given)
        indices = {index: index for index in range(len(classes))} | {ignore_index: IGNORE_INDEX}
        meaning = Meaning(classes, indices)
    elif max(greys) >= FIRST_COLOR or (in_colors and min(values) >= FIRST_COLOR):
        return _read_colors(root, summaries, table)
    elif table:
        meaning = _read_table(*table, greys)
    else:
        meaning = _number(root, greys)
    if unknown := sorted(greys - meaning.indices.keys() - _IGNORED):
        where = given if given.is_file() else table[0] if table else root
        names = [str(v) if v < FIRST_COLOR else format_color(to_color(v)) for v in unknown]
        raise DataError(
            f"The masks below {root} have values that {where} does not name: {shorten(names)}. Add "
            "their names there."
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
    note = (
        f"No names were found: classes are named by their mask values, {shorten(ordered)}. Write "
        "the names into classes.txt, one a line, to have them."
    )
    indices = {value: index for index, value in enumerate(ordered)}
    return Meaning(build_classes(list(map(str, ordered))), indices, [note])


def _read_table(path: Path, rows: Sequence[NamedClass], used: set[int]) -> Meaning:
    """Return the meaning of indices by a table; 0 and 255 alone are two classes."""
    notes, is_binary = [], used == {0, IGNORE_INDEX}
    has_background = any(row.name.lower() == BACKGROUND for row in rows)
    is_counted = [row.value for row in rows] == list(range(len(rows)))
    is_moved = len(rows) in used or (is_binary and len(rows) == 1)
    if is_moved and is_counted and not has_background:
        moved = [row._replace(value=row.value + 1) for row in rows]
        rows = [NamedClass(BACKGROUND, 0, BLACK), *moved]
        notes = [f"{path.name} names the mask values from 1; 0 is {BACKGROUND}."]
    classes, by_name = _build_classes(rows)
    indices = {row.value: by_name[row.name] for row in rows}
    if is_binary and indices.keys() == {0, 1}:
        indices[IGNORE_INDEX] = indices[1]
        notes.append(f"The mask value 255 is {classes.names[indices[1]]}.")
    return Meaning(classes, indices, notes)


def _build_classes(rows: Sequence[NamedClass]) -> tuple[Classes, dict[str, int]]:
    """Return the classes of a table, each name once, and the index of each name."""
    colors = {row.name: row.color or voc_color(row.value % 256) for row in reversed(rows)}
    names = list(dict.fromkeys(row.name for row in rows))
    indices = {name: index for index, name in enumerate(names)}
    return build_classes(names, [colors[name] for name in names]), indices


def _read_colors(
    root: Path, summaries: Sequence[Summary], table: tuple[Path, list[NamedClass]] | None
) -> Meaning:
    """Return the meaning of colours by a table, a known one, or in their order."""
    masks = [
        {_to_color(value): number for value, number in counts.items()} for counts, _ in summaries
    ]
    used, given = set().union(*masks), None
    if table:
        classes, by_name = _build_classes(table[1])
        given = build_table(table[0].name, classes, (BLACK, voc_color(IGNORE_INDEX)))
        given.indices.update({row.color: by_name[row.name] for row in table[1] if row.color})
    found = match_table(masks, given)
    if found is None or (given is not None and found is not given):
        unknown = sorted(used - given.indices.keys()) if given else sorted(used)
        listed = shorten([format_color(color) for color in unknown])
        raise DataError(
            f"{len(unknown)} colours of the masks below {root} have no name: {listed}. Write all "
            f"colours and names as class_dict.csv (name,r,g,b) into {root}. If each colour is an "
            "object, use --format instances; if there are countless shades, the masks were saved "
            "as JPEG or smoothed."
        )
    note = f"The colours of the masks are those of {found.name}; class_dict.csv names others."
    notes = [] if given else [note]
    if rest := used - found.indices.keys():
        listed = shorten(sorted(map(format_color, rest)))
        notes.append(f"Pixels of rare colours that are no class are ignored: {listed}.")
    values = {value for counts, _ in summaries for value in counts}
    indices = {value: found.indices.get(_to_color(value), IGNORE_INDEX) for value in values}
    return Meaning(found.classes, indices, notes, in_colors=True)


def _to_color(value: int) -> Color:
    return to_color(value if value >= FIRST_COLOR else GREY * min(value, 255))
