"""The classes of a data set: names, colours, and the value that stands for no class."""

from collections.abc import Sequence
from dataclasses import dataclass

IGNORE_INDEX = 255
"""Mask value of pixels that belong to no class, in memory always this one."""

Color = tuple[int, int, int]

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


def voc_color(index: int) -> Color:
    """Return the RGB colour of a class index in PASCAL VOC's palette (any index 0-255)."""
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue


@dataclass(frozen=True)
class Classes:
    """Names and RGB colours of the classes, in the order of their mask values.

    Attributes:
        names: One name per class; position = mask value.
        colors: One (red, green, blue) per class, each 0-255.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> list[int]:
        """768 numbers for `PIL.Image.putpalette`: our colours, then VOC's (void is whitish)."""
        colors = list(self.colors) + [voc_color(i) for i in range(len(self.colors), 256)]
        return [channel for color in colors for channel in color]


def build_classes(names: Sequence[str], colors: Sequence[Sequence[int]] | None = None) -> Classes:
    """Make `Classes`, with VOC's palette where no colours are given."""
    if colors is None:
        colors = [voc_color(index) for index in range(len(names))]
    return Classes(tuple(names), tuple((int(r), int(g), int(b)) for r, g, b in colors))
