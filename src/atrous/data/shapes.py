"""The sample dataset **shapes**: drawn scenes in VOC devkit layout.

Objects of seven classes and of all sizes overlap on a patterned background. Each class has its own
pattern and a preferred hue, but colours overlap: the form distinguishes the classes, so a model
needs context beyond single pixels.
"""

import colorsys
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.data.classes_file import format_classes
from atrous.errors import DataError

SHAPES = build_classes(
    ("background", "disc", "ring", "square", "triangle", "star", "arrow", "moon"),
    (
        (0, 0, 0), (229, 57, 53), (251, 140, 0), (253, 216, 53),
        (67, 160, 71), (0, 172, 193), (57, 73, 171), (216, 27, 96),
    ),
)  # fmt: skip

_FREQUENCIES = (0.13, 0.15, 0.13, 0.16, 0.18, 0.18, 0.07)
"""Probability of each class of object; `moon` is rare."""

_HUES = (0.0, 0.08, 0.16, 0.32, 0.5, 0.65, 0.83)
_HUE_SPREAD = 0.06

_RADIUS_RANGE = (0.14, 0.45)
"""Radius of an object as a share of the image's side; log-uniform."""

_BORDER_PX = 1.5
"""Half the width of the border of ignored pixels around every object."""

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _polygon(*corners: tuple[float, float]) -> Distance:
    """Return the signed distance to a polygon, negative inside."""

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        nearest = np.full_like(x, np.inf)
        inside = np.zeros(x.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
            nearest = np.minimum(nearest, (px - ex * along) ** 2 + (py - ey * along) ** 2)
            if ay != by:
                inside ^= ((ay <= y) != (by <= y)) & (px < ex * py / ey)
        return np.where(inside, -1, 1) * np.sqrt(nearest)

    return distance


def _radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y)


_DISTANCES: tuple[Distance, ...] = (
    lambda x, y: _radius(x, y) - 0.9,
    lambda x, y: np.abs(_radius(x, y) - 0.7) - 0.26,
    _polygon((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)),
    _polygon((0, -1), (0.9, 0.65), (-0.9, 0.65)),
    _polygon(*(
        (r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5))
        for i, r in enumerate((1.0, 0.5) * 5)
    )),
    _polygon(
        (0, -1), (0.85, 0), (0.2, 0), (0.2, 1), (-0.2, 1), (-0.2, 0), (-0.85, 0)
    ),
    lambda x, y: np.maximum(_radius(x, y) - 1, 0.7 - _radius(x - 0.55, y)),
)  # fmt: skip


def write_shapes(
    folder: Path, *, num_train: int, num_val: int, size_px: int, seed: int = 0
) -> None:
    """Draw the dataset and write it to `folder`/VOCdevkit/VOC2012, with a `classes.toml`.

    The same arguments give the same files. Each image depends on the seed and its index only.

    Raises:
        DataError: The folder contains other data or cannot be written.
    """
    devkit = folder / "VOCdevkit" / "VOC2012"
    classes_path = devkit / "classes.toml"
    try:
        if devkit.exists() and not (
            classes_path.exists() and classes_path.read_text() == format_classes(SHAPES)
        ):
            raise DataError(f"{devkit} contains other data. Give another folder for shapes.")
        _write_devkit(devkit, num_train, num_val, size_px, seed)
    except OSError as error:
        raise DataError(f"Cannot write the sample dataset to {folder}: {error}.") from error


def _write_devkit(devkit: Path, num_train: int, num_val: int, size_px: int, seed: int) -> None:
    lists = devkit / "ImageSets" / "Segmentation"
    for path in (devkit / "JPEGImages", devkit / "SegmentationClass", lists):
        path.mkdir(parents=True, exist_ok=True)
    (devkit / "classes.toml").write_text(format_classes(SHAPES))
    names = [f"shapes_{index:05d}" for index in range(num_train + num_val)]
    for index, name in enumerate(names):
        image, mask = draw_scene(np.random.default_rng((seed, index)), size_px)
        Image.fromarray(image).save(devkit / "JPEGImages" / f"{name}.jpg", quality=95)
        palette_mask = Image.fromarray(mask)
        palette_mask.putpalette(SHAPES.palette)
        palette_mask.save(devkit / "SegmentationClass" / f"{name}.png")
    (lists / "train.txt").write_text("\n".join(names[:num_train]) + "\n")
    (lists / "val.txt").write_text("\n".join(names[num_train:]) + "\n")


def draw_scene(rng: np.random.Generator, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image, uint8 (H, W, 3), and its mask, uint8 (H, W)."""
    grid = np.arange(size_px) + 0.5
    x, y = np.meshgrid(grid, grid)
    image = _draw_background(rng, x, y)
    mask = np.zeros((size_px, size_px), dtype=np.uint8)
    smallest, largest = _RADIUS_RANGE
    radii = size_px * smallest * (largest / smallest) ** rng.uniform(size=rng.integers(3, 6))
    for radius in sorted(radii, reverse=True):
        _draw_object(rng, image, mask, x, y, radius)
    image += rng.normal(0, 0.015, image.shape)
    return (255 * np.clip(image, 0, 1)).astype(np.uint8), mask


def _draw_background(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return noise of two similar colours, sometimes with wide soft stripes."""
    size_px = len(x)
    hue, value = rng.uniform(), rng.uniform(0.35, 0.9)
    first = _color(hue, rng.uniform(0.1, 0.6), value)
    second = _color(hue + rng.normal(0, 0.1), rng.uniform(0.1, 0.6), value + rng.uniform(-0.3, 0.3))
    along, _ = _waves(rng, x, y, rng.uniform(0.15, 0.4) * size_px)
    weight = 0.5 + rng.choice((0, 0.4)) * along + rng.uniform(0.5, 1.5) * _clouds(rng, size_px)
    return _blend(first, second, weight)


def _draw_object(
    rng: np.random.Generator,
    image: np.ndarray,
    mask: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: float,
) -> None:
    """Draw one object and its shadow over the image, and its class into the mask."""
    size_px = len(x)
    label = rng.choice(len(_DISTANCES), p=_FREQUENCIES)
    center_x, center_y = rng.uniform(0.05 * size_px, 0.95 * size_px, 2)
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle) / radius, math.sin(angle) / radius

    def distance_px(shift: float) -> np.ndarray:
        dx, dy = x - center_x - shift, y - center_y - shift
        return radius * _DISTANCES[label](cos * dx + sin * dy, cos * dy - sin * dx)

    shadow = np.clip(0.5 - distance_px(0.08 * radius + 1) / (0.12 * radius + 2), 0, 1)
    image *= 1 - 0.5 * shadow[..., None]
    distance = distance_px(0)
    fill = _fill(rng, label, x, y, distance)
    light = 1.05 - 0.2 * np.clip((x - center_x + y - center_y) / radius + 0.6, -1, 1)
    edge = 1 - 0.35 * np.clip(1.5 + distance / (0.05 * radius + 0.6), 0, 1)
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    image += cover * (np.clip(fill * (light * edge)[..., None], 0, 1) - image)
    mask[distance < 0] = label + 1
    mask[np.abs(distance) < _BORDER_PX] = IGNORE_INDEX


def _fill(
    rng: np.random.Generator, label: int, x: np.ndarray, y: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Return the colours of an object in the pattern of its class."""
    size_px = len(x)
    spacing = rng.uniform(0.05, 0.075) * size_px
    u, v = _waves(rng, x, y, spacing)
    weight = (
        lambda: 3 * (0.35 - _radius(u, v)),  # dots
        lambda: 1.5 * u,  # stripes
        lambda: 3 * u * v,  # checks
        lambda: 0.5 * _clouds(rng, size_px) - 0.5,  # plain
        lambda: 1.5 * _wave(distance / spacing),  # outlines
        lambda: 1.5 * _wave((x + spacing * v) / spacing),  # zigzag
        lambda: 3 * _clouds(rng, size_px),  # clouds
    )[label]()
    hue = _HUES[label] + rng.normal(0, _HUE_SPREAD)
    saturation, value = rng.uniform(0.5, 0.95), rng.uniform(0.6, 1.0)
    first = _color(hue, saturation, value)
    second = _color(hue + rng.normal(0, 0.04), saturation * rng.uniform(0.1, 0.6), value * 1.1)
    return _blend(first, second, 0.5 + weight)


def _color(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, min(max(value, 0.0), 1.0)))


def _blend(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return first + np.clip(weight, 0, 1)[..., None] * (second - first)


def _wave(phase: np.ndarray) -> np.ndarray:
    """Return a wave of straight lines between -1 and 1, of period 1."""
    return 4 * np.abs(phase - np.floor(phase) - 0.5) - 1


def _waves(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return waves along two directions at right angles."""
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle) / spacing, math.sin(angle) / spacing
    return _wave(cos * x + sin * y), _wave(cos * y - sin * x)


def _clouds(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return smooth noise, roughly -1 to 1, from random grids of 4, 8 and 16 cells."""
    total = np.zeros((size_px, size_px))
    for cells, strength in ((4, 0.6), (8, 0.3), (16, 0.15)):
        lattice = rng.uniform(-1, 1, (cells + 1, cells + 1))
        place = (np.arange(size_px) + 0.5) * cells / size_px
        cell = place.astype(int)
        t = place - cell
        t = t * t * (3 - 2 * t)
        rows = lattice[cell] * (1 - t)[:, None] + lattice[cell + 1] * t[:, None]
        total += strength * (rows[:, cell] * (1 - t) + rows[:, cell + 1] * t)
    return total
