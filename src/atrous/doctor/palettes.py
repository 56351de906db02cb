"""Colour tables of well-known data sets, and which of them a set of colours belongs to."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from atrous.classes import VOC_NAMES, VOID, Classes, Color, build_classes, voc_color

BLACK = (0, 0, 0)

_MOST_OWN_COLORS = 64
_LEAST_COVERED = 0.999
_LEAST_MATCHED = 3
_SPECK = 1e-4
"""Share of all pixels below which a colour counts as a stray."""


@dataclass(frozen=True)
class ColorTable:
    """Which colour stands for which class.

    Attributes:
        name: What it is called in a report.
        indices: Colour → mask value, with 255 for void.
        classes: Names and colours by mask value.
    """

    name: str
    indices: dict[Color, int]
    classes: Classes


def build_table(name: str, classes: Classes, void: tuple[Color, ...] = ()) -> ColorTable:
    """Make a table from the colours of classes, and of what has none."""
    indices = dict.fromkeys(void, VOID)
    indices |= {color: index for index, color in enumerate(classes.colors)}
    return ColorTable(name, indices, classes)


VOC_TABLE = build_table("PASCAL VOC", build_classes(VOC_NAMES), (voc_color(VOID),))

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

_CITYSCAPES_VOID = (
    BLACK, (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180),
    (150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110),
)  # fmt: skip


def _build_known(name: str, colors: Mapping[str, Color], void: tuple[Color, ...]) -> ColorTable:
    return build_table(name, build_classes(list(colors), list(colors.values())), void)


KNOWN_TABLES = (
    VOC_TABLE,
    _build_known("CamVid, 11 classes", _CAMVID_11, (BLACK,)),
    _build_known("CamVid, 31 classes", _CAMVID_31, (BLACK,)),
    _build_known("Cityscapes", _CITYSCAPES, _CITYSCAPES_VOID),
)


def match_table(colors: Counter[Color], given: ColorTable | None) -> ColorTable | None:
    """Find the colour table of some masks.

    The given table is tried first, then the known ones, which need three colours besides black
    to be recognised. A table fits if it has the colours of 99.9 % of the pixels; the rest becomes
    void. Else up to 64 colours are numbered, black first. Grey is read as the index itself, but
    for black and white, which are 0 and 1.

    Args:
        colors: Colour → pixels over all masks.
        given: The table of the data set's own classes.

    Returns:
        The table, or None where there are too many colours for one.
    """
    total = colors.total()
    if given is not None and _count_covered(colors, given) >= _LEAST_COVERED * total:
        return given
    for table in KNOWN_TABLES:
        matched = sum(color in table.indices for color in colors if color != BLACK)
        if matched >= _LEAST_MATCHED and _count_covered(colors, table) >= _LEAST_COVERED * total:
            return table
    own = sorted(color for color, count in colors.items() if count > _SPECK * total)
    if len(own) <= _MOST_OWN_COLORS and _count(colors, own) >= _LEAST_COVERED * total:
        return _build_grey(own) or _build_own(own)
    return None


def _build_grey(colors: list[Color]) -> ColorTable | None:
    values = [color[0] for color in colors if color[0] == color[1] == color[2]]
    if len(values) < len(colors):
        return None
    if values == [0, 255]:
        names = ["background", "foreground"]
        return build_table("black and white", build_classes(names, [BLACK, (255, 255, 255)]))
    largest = max((value for value in values if value < VOID), default=0)
    classes = build_classes([str(index) for index in range(largest + 1)])
    return ColorTable("grey values", {(value,) * 3: value for value in values}, classes)


def _build_own(colors: list[Color]) -> ColorTable:
    names = ["#{:02x}{:02x}{:02x}".format(*color) for color in colors]
    return build_table("a table of their own", build_classes(names, colors))


def _count_covered(colors: Counter[Color], table: ColorTable) -> int:
    return _count(colors, table.indices)


def _count(colors: Counter[Color], chosen: Mapping[Color, int] | list[Color]) -> int:
    return sum(count for color, count in colors.items() if color in chosen)
