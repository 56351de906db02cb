"""What every format returns: the classes, the images, and how the mask of each is made."""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from atrous.classes import Classes, build_classes
from atrous.data.image_file import read_upright_hw
from atrous.errors import DataError
from atrous.parsing import parse_json

BACKGROUND = "background"
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""The split that each known name stands for."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Item:
    """An image of a foreign dataset.

    Attributes:
        image: Path of the image.
        split: A name of `SPLITS`, as the source spells it, or None.
        load_mask: Makes the mask, uint8 (H, W) with class indices and 255 for ignored pixels, and
            counts in its argument what was left out.
        labels: Files that the mask comes from.
    """

    image: Path
    split: str | None
    load_mask: Callable[[Counter[str]], np.ndarray]
    labels: tuple[Path, ...]


@dataclass
class Source:
    """A dataset in a foreign format.

    Attributes:
        format: Name of the format.
        classes: Classes of the masks.
        items: The images.
        skipped: Reasons why annotations or images were left out, with their numbers.
        notes: What was assumed, as sentences for the user.
    """

    format: str
    classes: Classes
    items: list[Item]
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find_split(parts: Sequence[str]) -> str | None:
    """Return the split that a folder or file name states, such as `train2017` or `images_valid`."""
    for part in parts:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", part)
        found = {word.lower() for word in words} & SPLITS.keys()
        if len(found) == 1 and (len(words) == 1 or "dev" not in found):
            return found.pop()
    return None


def map_on_all_cores(
    function: Callable[[_T], _R],
    values: Sequence[_T],
    progress: Callable[[int, int], None] | None = None,
) -> list[_R]:
    """Return the result for each value; the first error cancels the rest."""
    results = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done, result in enumerate(pool.map(function, values), start=1):
                results.append(result)
                if progress is not None:
                    progress(done, len(values))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def name_classes(names: Sequence[str]) -> tuple[Classes, dict[str, int]]:
    """Build classes, with `background` as class 0, and the index of each name."""
    rest = [name for name in dict.fromkeys(names) if name.lower() != BACKGROUND]
    indices = {name: index for index, name in enumerate(rest, start=1)}
    return build_classes([BACKGROUND, *rest]), dict.fromkeys(names, 0) | indices


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: The file cannot be read, or is not JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from None


def are_points(points: Any, min_points: int) -> TypeGuard[list[tuple[float, float]]]:
    """Return whether a value is a list of (x, y) with finite numbers."""
    return (
        isinstance(points, list)
        and len(points) >= min_points
        and all(
            isinstance(point, list | tuple)
            and len(point) == 2
            and all(isinstance(one, int | float) and math.isfinite(one) for one in point)
            for point in points
        )
    )


class Canvas:
    """A mask on which shapes are drawn, the later over the earlier."""

    def __init__(self, height: int, width: int) -> None:
        self.image = Image.new("L", (width, height))
        self.draw = ImageDraw.Draw(self.image)

    @classmethod
    def for_image(cls, path: Path) -> "Canvas":
        """Return a canvas of the size of an upright image."""
        return cls(*read_upright_hw(path)[0])

    def draw_polygon(self, points: Sequence[Sequence[float]], index: int) -> None:
        """Fill a polygon of (x, y) in pixels, its outline included."""
        self.draw.polygon([(x, y) for x, y in points], fill=index, outline=index)

    def draw_rectangle(self, corners: Sequence[Sequence[float]], index: int) -> None:
        """Fill a rectangle of two opposite corners (x, y), its outline included."""
        (left, top), (right, bottom) = corners[:2]
        self.draw_polygon([(left, top), (right, top), (right, bottom), (left, bottom)], index)

    def paste(self, region: Image.Image, corner: tuple[int, int], index: int) -> None:
        """Set the pixels where a grey image is above 0, with its upper left at (x, y)."""
        stencil = region.convert("L").point(lambda value: 255 * (value > 0))
        self.image.paste(index, corner, stencil)

    def to_mask(self) -> np.ndarray:
        """Return the mask, uint8 (H, W)."""
        return np.array(self.image)
