"""The classes of mask values and of colours by a table of names, or by a known colour table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atrous.classes import IGNORE_INDEX, Classes, Color, build_classes, voc_color
from atrous.data.classes_file import NamedClass
from atrous.data.palettes import BLACK, build_table, format_color, match_table
from atrous.errors import DataError, shorten
from atrous.formats.mask_files import FIRST_COLOR, GREY, to_color
from atrous.formats.source import BACKGROUND

Summary = tuple[dict[int, int], frozenset[int]]
"""Of a mask: value → pixels, and the values with more than one connected region."""


@dataclass(frozen=True)
class Meaning:
    """What the values of masks mean.

    Attributes:
        classes: The classes.
        indices: Value, as `read_values` returns it, → class index; other values are ignored.
        notes: What was assumed, as sentences.
        in_colors: Whether palette masks are read by their colours.
    """

    classes: Classes
    indices: dict[int, int]
    notes: list[str] = field(default_factory=list)
    in_colors: bool = False


def read_table(path: Path, rows: Sequence[NamedClass], used: set[int]) -> Meaning:
    """Return the meaning of indices by a table."""
    notes = []
    has_background = any(row.name.lower() == BACKGROUND for row in rows)
    is_counted = [row.value for row in rows] == list(range(len(rows)))
    if len(rows) in used and is_counted and not has_background:
        moved = [row._replace(value=row.value + 1) for row in rows]
        rows = [NamedClass(BACKGROUND, 0, BLACK), *moved]
        notes = [f"{path.name} names the mask values from 1; 0 is {BACKGROUND}."]
    classes, by_name = _build_classes(rows)
    return Meaning(classes, {row.value: by_name[row.name] for row in rows}, notes)


def _build_classes(rows: Sequence[NamedClass]) -> tuple[Classes, dict[str, int]]:
    """Return the classes of a table, each name once, and the index of each name."""
    colors = {row.name: row.color or voc_color(row.value % 256) for row in reversed(rows)}
    names = list(dict.fromkeys(row.name for row in rows))
    indices = {name: index for index, name in enumerate(names)}
    return build_classes(names, [colors[name] for name in names]), indices


def read_colors(
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
