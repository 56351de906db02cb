"""The header of an image file that is read as an array, at its own depth."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ArrayFile:
    """Header of an image file that cannot be read as 8-bit RGB without loss."""

    size_hw: tuple[int, int]  # as stored
    num_bands: int  # without transparency
    dtype: str  # in little-endian order
    read: Callable[[], Array]  # the upright image, (H, W, num_bands)
    orientation: int = 1  # of EXIF, 1 to 8
    nodata: float | None = None  # value of pixels without data
    num_pages: int = 1  # those that are read as bands count as one

    @property
    def upright_hw(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        height, width = self.size_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_all(source: Path | BinaryIO) -> bytes:
    """Return the content of a file."""
    if isinstance(source, Path):
        return source.read_bytes()
    source.seek(0)
    return source.read()
