"""Colour tables of well-known datasets, and which table a set of masks follows."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from atrous.classes import IGNORE_INDEX, VOC_NAMES, Classes, Color, build_classes, voc_color
from atrous.data.object_ids import are_object_colors

BLACK = (0, 0, 0)

_MAX_OWN_COLORS = 64
_MIN_COVERED = 0.999
_MIN_MATCHED = 3
_MIN_GAP_RATIO = 2
_MIN_SHARE = 1e-4
"""Share of all pixels up to which a colour counts as noise."""


@dataclass(frozen=True)
class ColorTable:
    """The class of each colour.

    Attributes:
        name: Name in reports.
        indices: Colour → class index, 255 for ignored pixels.
        classes: Names and colours of the classes.
    """

    name: str
    indices: dict[Color, int]
    classes: Classes

    @property
    def is_grey(self) -> bool:
        """Whether all of its colours are grey."""
        return all(r == g == b for r, g, b in self.indices)


def build_table(name: str, classes: Classes, ignored: tuple[Color, ...] = ()) -> ColorTable:
    """Return the table of the colours of the classes and of ignored pixels."""
    indices = dict.fromkeys(ignored, IGNORE_INDEX)
    indices |= {color: index for index, color in enumerate(classes.colors)}
    return ColorTable(name, indices, classes)


VOC_TABLE = build_table("PASCAL VOC", build_classes(VOC_NAMES), (voc_color(IGNORE_INDEX),))

_CAMVID_11 = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128),
    "road": (128, 64, 128), "pavement": (0, 0, 192), "tree": (128, 128, 0),
    "sign": (192, 128, 128), "fence": (64, 64, 128), "car": (64, 0, 128),
    "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip

_CAMVID_31 = {
    "animal": (64, 128, 64), "archway": (192, 0, 128), "bicyclist": (0, 128, 192),
    "bridge": (0, 128, 64), "building": (128, 0, 0), "car": (64, 0, 128),
    "cart, luggage, pram": (64, 0, 192), "child": (192, 128, 64),
    "column, pole": (192, 192, 128), "fence": (64, 64, 128), "driving lane mark": (128, 0, 192),
    "other lane mark": (192, 0, 64), "misc text": (128, 128, 64),
    "motorcycle, scooter": (192, 0, 192), "other moving": (128, 64, 64),
    "parking block": (64, 192, 128), "pedestrian": (64, 64, 0), "road": (128, 64, 128),
    "road shoulder": (128, 128, 192), "sidewalk": (0, 0, 192), "sign": (192, 128, 128),
    "sky": (128, 128, 128), "SUV, pickup, truck": (64, 128, 192), "traffic cone": (0, 0, 64),
    "traffic light": (0, 64, 64), "train": (192, 64, 128), "tree": (128, 128, 0),
    "truck, bus": (192, 128, 192), "tunnel": (64, 0, 64), "vegetation": (192, 192, 0),
    "wall": (64, 192, 0),
}  # fmt: skip

_CITYSCAPES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70),
    "wall": (102, 102, 156), "fence": (190, 153, 153), "pole": (153, 153, 153),
    "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180),
    "person": (220, 20, 60), "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70),
    "bus": (0, 60, 100), "train": (0, 80, 100), "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}  # fmt: skip

_CITYSCAPES_IGNORED = (
    BLACK, (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180),
    (150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110),
)  # fmt: skip


def _build_known(name: str, colors: Mapping[str, Color], ignored: tuple[Color, ...]) -> ColorTable:
    return build_table(name, build_classes(list(colors), list(colors.values())), ignored)


KNOWN_TABLES = (
    VOC_TABLE,
    _build_known("CamVid, 11 classes", _CAMVID_11, (BLACK,)),
    _build_known("CamVid, 31 classes", _CAMVID_31, (BLACK,)),
    _build_known("Cityscapes", _CITYSCAPES, _CITYSCAPES_IGNORED),
)


def match_table(
    masks: Sequence[Mapping[Color, int]], given: ColorTable | None
) -> ColorTable | None:
    """Find the colour table of some masks.

    The given table is tried first, then the known ones, which need three matching colours besides
    black. A table fits if it contains the colours of 99.9 % of the pixels; the remaining pixels
    are ignored. The first colours of VOC's palette are used for arbitrary classes, so these
    classes are only numbered. Otherwise up to 64 colours are numbered, black first, unless they
    number objects.

    Args:
        masks: Per mask, colour → number of pixels.
        given: Table of the dataset's own classes.

    Returns:
        The table; None if no table explains the colours.
    """
    colors: Counter[Color] = Counter()
    for mask in masks:
        colors.update(mask)
    total = colors.total()
    if given is not None and _count(colors, given.indices) >= _MIN_COVERED * total:
        return given
    own = sorted(color for color, count in colors.items() if count > _MIN_SHARE * total)
    are_objects = are_object_colors([mask.keys() & set(own) - {BLACK} for mask in masks])
    for table in KNOWN_TABLES:
        matched = {color for color in colors if color in table.indices and color != BLACK}
        covered = _count(colors, table.indices)
        if len(matched) >= _MIN_MATCHED and covered >= _MIN_COVERED * total:
            indices = {table.indices[color] for color in matched} - {IGNORE_INDEX}
            num_classes = len(indices) + 1
            are_first = indices == set(range(1, num_classes)) and num_classes < len(VOC_NAMES)
            if table is not VOC_TABLE or not are_first:
                return table
            if are_objects:
                return None
            classes = build_classes([str(index) for index in range(num_classes)])
            return ColorTable("PASCAL VOC's palette", table.indices, classes)
    if are_objects or len(own) > _MAX_OWN_COLORS or _count(colors, own) < _MIN_COVERED * total:
        return None
    names = [format_color(color) for color in own]
    return build_table("a table of their own", build_classes(names, own))


def build_grey_table(
    greys: Set[int],
    used: Set[int],
    ignore_index: int,
    given: Classes | None,
    *,
    is_binary: bool,
) -> ColorTable | None:
    """Return the table of masks whose colours are the grey values of class indices.

    Args:
        greys: Values in these masks.
        used: Classes in the masks of indices beside them.
        ignore_index: Mask value of ignored pixels.
        given: The dataset's own classes.
        is_binary: Whether 255 means the foreground; see `Survey.binary_masks`.

    Returns:
        The table; None if a value is not one of the given classes, or without given classes if
        there are wide gaps or too many values.
    """
    if is_binary:
        names = ["background", "foreground"]
        classes = given or build_classes(names, [BLACK, (255, 255, 255)])
        values = {value: value for value in greys} | {IGNORE_INDEX: 1}
    else:
        labels = (greys - {ignore_index}) | used
        num_classes = len(given) if given else max(labels, default=0) + 1
        limit = IGNORE_INDEX if used or given else _MAX_OWN_COLORS
        if max(labels, default=0) >= num_classes or num_classes > limit:
            return None
        if given is None and has_wide_gaps(labels):
            return None
        classes = given or build_classes([str(index) for index in range(num_classes)])
        values = {value: value for value in greys}
    if ignore_index in values and not (is_binary and ignore_index == IGNORE_INDEX):
        values[ignore_index] = IGNORE_INDEX
    indices = {(value, value, value): index for value, index in values.items()}
    return ColorTable("black and white" if is_binary else "grey values", indices, classes)


def has_wide_gaps(labels: Set[int]) -> bool:
    """Return whether class numbers have such gaps that they are probably not class numbers."""
    return bool(labels) and max(labels) >= _MIN_GAP_RATIO * len(labels) + 1


def format_color(color: Color) -> str:
    """Return a colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _count(colors: Counter[Color], chosen: Mapping[Color, int] | list[Color]) -> int:
    return sum(count for color, count in colors.items() if color in chosen)
