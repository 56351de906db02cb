"""Colour tables of well-known datasets, and which table a set of masks follows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atrous.classes import IGNORE_INDEX, VOC_NAMES, Classes, Color, build_classes, voc_color
from atrous.data.object_ids import are_object_colors

BLACK = (0, 0, 0)

_MAX_OWN_COLORS = 64
_MIN_COVERED = 0.999
_MIN_MATCHED = 3
_MIN_SHARE = 1e-4
"""Share of all pixels up to which a colour counts as noise."""


@dataclass(frozen=True)
class ColorTable:
    """The class of each colour."""

    name: str  # in reports
    indices: dict[Color, int]  # 255 for ignored pixels
    classes: Classes


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

_CITYSCAPES = (
    ("road", 7, (128, 64, 128)), ("sidewalk", 8, (244, 35, 232)), ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)), ("fence", 13, (190, 153, 153)), ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)), ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)), ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)), ("person", 24, (220, 20, 60)), ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)), ("truck", 27, (0, 0, 70)), ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)), ("motorcycle", 32, (0, 0, 230)), ("bicycle", 33, (119, 11, 32)),
)  # fmt: skip
CITYSCAPES = build_classes([name for name, _, _ in _CITYSCAPES], [rgb for _, _, rgb in _CITYSCAPES])
"""The 19 classes of training. Source: https://github.com/mcordts/cityscapesScripts."""

CITYSCAPES_IDS = {number: index for index, (_, number, _) in enumerate(_CITYSCAPES)}
"""Index in `CITYSCAPES` by the id in `labelIds` masks; other ids are ignored."""

MAX_CITYSCAPES_ID = 33

_CITYSCAPES_IGNORED = (
    BLACK, (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180),
    (150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110),
)  # fmt: skip


KNOWN_TABLES = (
    VOC_TABLE,
    *(
        build_table(f"CamVid, {len(rgb)} classes", build_classes([*rgb], [*rgb.values()]), (BLACK,))
        for rgb in (_CAMVID_11, _CAMVID_31)
    ),
    build_table("Cityscapes", CITYSCAPES, _CITYSCAPES_IGNORED),
)


def match_table(
    masks: Sequence[Mapping[Color, int]], given: ColorTable | None
) -> ColorTable | None:
    """Find the colour table of some masks.

    It must contain the colours of 99.9 % of the pixels; the remaining pixels are ignored. Known
    tables also need three matching colours besides black. The first colours of VOC's palette are
    used for arbitrary classes, so these classes are only numbered. Without a table of the dataset's
    own classes, the known tables are tried.

    Args:
        masks: Per mask, colour → number of pixels.
        given: Table of the dataset's own classes.
    """
    colors = _count_pixels(masks)
    for table in KNOWN_TABLES if given is None else (given,):
        matched = {color for color in colors if color in table.indices and color != BLACK}
        covered = sum(count for color, count in colors.items() if color in table.indices)
        if covered < _MIN_COVERED * colors.total() or (
            given is None and len(matched) < _MIN_MATCHED
        ):
            continue
        indices = {table.indices[color] for color in matched} - {IGNORE_INDEX}
        num_classes = len(indices) + 1
        are_first = indices == set(range(1, num_classes)) and num_classes < len(VOC_NAMES)
        if table is not VOC_TABLE or not are_first:
            return table
        if _are_objects(masks):
            return None
        classes = build_classes([str(index) for index in range(num_classes)])
        return ColorTable("PASCAL VOC's palette", table.indices, classes)
    return None


def list_own_colors(masks: Sequence[Mapping[Color, int]]) -> dict[Color, float]:
    """Return the colours of masks that may be classes, sorted, with their shares of the pixels.

    There are none if they number objects, or are more than 64, as after blurring.
    """
    own = _list_frequent(masks)
    is_few = len(own) <= _MAX_OWN_COLORS and sum(own.values()) >= _MIN_COVERED
    return own if is_few and not _are_objects(masks) else {}


def _are_objects(masks: Sequence[Mapping[Color, int]]) -> bool:
    own = _list_frequent(masks).keys() - {BLACK}
    return are_object_colors([mask.keys() & own for mask in masks])


def _list_frequent(masks: Sequence[Mapping[Color, int]]) -> dict[Color, float]:
    """Return the shares of the colours that are no noise, sorted by colour."""
    colors = _count_pixels(masks)
    total = colors.total()
    return {c: n / total for c, n in sorted(colors.items()) if n > _MIN_SHARE * total}


def _count_pixels(masks: Sequence[Mapping[Color, int]]) -> Counter[Color]:
    colors: Counter[Color] = Counter()
    for mask in masks:
        colors.update(mask)
    return colors


def pack_color(color: Color) -> int:
    """Return a colour as a number of 24 bits; see `read_colors`."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def format_color(color: Color) -> str:
    """Return a colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*color)
