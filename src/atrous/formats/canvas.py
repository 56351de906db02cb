"""Drawing of shapes and pasting of regions on a mask."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from atrous.errors import DataError
from atrous.images.image_file import decode_image, read_upright_hw

Points = list[tuple[float, float]]

MAX_OUTSIDE = 10
"""How far outside of the image a shape may reach, in sides of the image."""

_MAX_PNG_PIXELS = 2**26


def rotate(points: Points, center: tuple[float, float], degrees: float) -> Points:
    """Turn points around a centre, clockwise in an image."""
    if not degrees:
        return points
    angle, (x, y) = math.radians(degrees), center
    cos, sin = math.cos(angle), math.sin(angle)
    return [
        (x + (px - x) * cos - (py - y) * sin, y + (px - x) * sin + (py - y) * cos)
        for px, py in points
    ]


def outline_box(first: tuple[float, float], opposite: tuple[float, float]) -> Points:
    """Return the corners of a box, by two opposite ones."""
    (left, top), (right, bottom) = first, opposite
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def outline_ellipse(center: tuple[float, float], radii: tuple[float, float]) -> Points:
    """Return 90 points of an ellipse whose axes are those of the image."""
    (x, y), (rx, ry) = center, radii
    angles = [math.tau * step / 90 for step in range(90)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def check_stated_size(image: Path, height: int, width: int, labels: Path) -> None:
    """Raise DataError unless an image has the size that its labels state, upright or turned."""
    image_hw = read_upright_hw(image)[0]
    if sorted(image_hw) != sorted((height, width)):
        raise DataError(
            f"{labels} was made for an image of {width} × {height} pixels, but {image} has "
            f"{image_hw[1]} × {image_hw[0]}. Put the image of that size in its place, or export "
            "the labels again for this one."
        )


class Canvas:
    """A mask on which shapes are drawn, the later over the earlier.

    The methods return whether the shape was drawn: it needs enough points, which are numbers and
    not far outside of the image.
    """

    def __init__(self, height: int, width: int) -> None:
        self.image = Image.new("L", (width, height))
        self.draw = ImageDraw.Draw(self.image)
        self._limit = MAX_OUTSIDE * max(height, width)

    @classmethod
    def for_image(cls, path: Path) -> "Canvas":
        """Return a canvas of the size of an image."""
        return cls(*read_upright_hw(path)[0])

    def fill_polygon(self, points: Points, index: int) -> bool:
        """Set the pixels whose centres are inside a polygon of (x, y), from the image's corner."""
        if not self.is_near(points, 3):
            return False
        width, height = self.image.size
        top = max(0, math.floor(min(y for _, y in points)))
        bottom = min(height, math.ceil(max(y for _, y in points)))
        flips = np.zeros((max(0, bottom - top), width + 1), bool)  # where a row enters or leaves
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            low, high = (math.ceil(y - 0.5) for y in sorted((y0, y1)))
            rows = np.arange(max(low, top), min(high, bottom))
            if len(rows):
                x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
                flips[rows - top, np.ceil(x - 0.5).clip(0, width).astype(int)] ^= True
        return self.paste(np.logical_xor.accumulate(flips, axis=1)[:, :width], (0, top), index)

    def is_near(self, points: Sequence[Sequence[float]], min_points: int) -> bool:
        """Return whether there are enough points, all of them not far outside of the image."""
        return len(points) >= min_points and all(
            -self._limit <= value <= self._limit for point in points for value in point
        )  # also false for NaN

    def draw_polygon(self, points: Points, index: int) -> bool:
        """Fill a polygon of (x, y), the centres of pixels, its outline included."""
        if is_near := self.is_near(points, 3):
            self.draw.polygon(points, fill=index, outline=index)
        return is_near

    def draw_rectangle(self, corners: Points, index: int) -> bool:
        """Fill a rectangle of two opposite corners (x, y), its outline included."""
        is_near = self.is_near(corners, 2)
        return is_near and self.draw_polygon(outline_box(*corners[:2]), index)

    def draw_line(self, points: Points, index: int, width: int) -> bool:
        """Draw a line through (x, y) in pixels."""
        if is_near := self.is_near(points, 2):
            self.draw.line(points, fill=index, width=width)
        return is_near

    def draw_circle(self, center: tuple[float, float], radius: float, index: int) -> bool:
        """Fill a circle, its outline included."""
        (x, y), is_near = center, self.is_near([(radius, radius), center], 2)
        if is_near:
            box = (x - radius, y - radius, x + radius, y + radius)
            self.draw.ellipse(box, fill=index, outline=index)
        return is_near

    def paste(self, region: np.ndarray, corner: tuple[float, float], index: int) -> bool:
        """Set the pixels where a region, bool (H, W), is true, with its upper left at (x, y)."""
        if is_near := self.is_near([corner], 1):
            left, top = map(round, corner)
            self.image.paste(index, (left, top), Image.fromarray(region.astype(np.uint8) * 255))
        return is_near

    def paste_png(self, content: bytes, corner: tuple[float, float], index: int) -> bool:
        """Set the pixels where a PNG is not transparent or, without transparency, above 0."""
        try:
            image = decode_image(
                BytesIO(content), "a mask", max_pixels=_MAX_PNG_PIXELS, formats=("PNG",)
            ).image
        except DataError:
            return False
        grey = image.getchannel("A") if "A" in image.getbands() else image.convert("L")
        return self.paste(np.asarray(grey) > 0, corner, index)

    def to_mask(self) -> np.ndarray:
        """Return the mask, uint8 (H, W)."""
        return np.array(self.image)
