"""Classes of a dataset: names, colours and the ignore index."""

from collections.abc import Sequence
from dataclasses import dataclass

IGNORE_INDEX = 255
"""Value of ignored pixels in memory, whatever their value on disk."""

Color = tuple[int, int, int]

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


def voc_color(index: int) -> Color:
    """Return the RGB colour of an index from 0 to 255 in the palette of PASCAL VOC."""
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
        names: One name per class; its index is the mask value.
        colors: One (red, green, blue) per class, each 0 to 255.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> list[int]:
        """768 numbers for `PIL.Image.putpalette`: the classes' colours, then VOC's."""
        colors = list(self.colors) + [voc_color(i) for i in range(len(self.colors), 256)]
        return [channel for color in colors for channel in color]


def build_classes(names: Sequence[str], colors: Sequence[Sequence[int]] | None = None) -> Classes:
    """Build `Classes`; without colours, they have those of VOC's palette."""
    if colors is None:
        colors = [voc_color(index) for index in range(len(names))]
    return Classes(tuple(names), tuple((int(r), int(g), int(b)) for r, g, b in colors))
