"""Mask files of any kind as one number per pixel: images, NumPy arrays, MATLAB files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atrous.classes import Color
from atrous.errors import DataError
from atrous.images.image_file import MAX_PIXELS, decode_image
from atrous.images.reading import holds_indices, read_indices

ARRAY_SUFFIXES = (".npy", ".mat")

FIRST_COLOR = 1 << 24
"""Values from here on are colours, 2^24 + red · 2^16 + green · 2^8 + blue."""


GREY = 0x010101
"""Difference of the values of two greys of successive brightness."""


def to_color(value: int) -> Color:
    """Return the colour of a value from `FIRST_COLOR` on."""
    return value >> 16 & 255, value >> 8 & 255, value & 255


def read_values(path: Path, *, in_colors: bool) -> np.ndarray:
    """Read a mask as int64 (H, W): indices, or colours from `FIRST_COLOR` on.

    With `in_colors`, palette masks have the colours of the palette.

    Raises:
        DataError: The file cannot be read or holds no mask.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return _to_values(_read_array(path), path)
    decoded = decode_image(path)
    image, is_gif = decoded.image, decoded.format == "GIF"  # whose writers renumber its palette
    if holds_indices(image) and not is_gif and not (in_colors and image.mode == "P"):
        return read_indices(path).astype(np.int64)
    values = _to_values(np.asarray(image.convert("RGB")), path)
    if is_gif and not in_colors:
        grey = values & 255
        return grey if (values == FIRST_COLOR + grey * GREY).all() else values
    return values


def _to_values(array: np.ndarray, path: Path) -> np.ndarray:
    array = array.squeeze()
    if array.dtype.kind not in "biu" or array.ndim not in (2, 3) or array.size > 4 * MAX_PIXELS:
        raise DataError(
            f"The mask {path} holds {array.dtype} of shape {array.shape}. Expected are whole "
            "numbers of shape (height, width): save it with `mask.astype('uint8')`."
        )
    values = array.astype(np.int64)
    if array.ndim == 2:
        return values
    if array.shape[2] not in (3, 4) or array.dtype != np.uint8:
        raise DataError(
            f"The mask {path} has shape {array.shape}. Expected is (height, width), one class "
            "index per pixel: for one channel per class, save `mask.argmax(-1)`."
        )
    return FIRST_COLOR + (values[..., 0] << 16) + (values[..., 1] << 8) + values[..., 2]


def _read_array(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        from scipy.io import loadmat

        content = loadmat(path, appendmat=False, simplify_cells=True)
    except Exception as error:  # damaged files raise exceptions of many kinds
        raise DataError(
            f"The mask {path} cannot be read: {error}. Save it as a PNG, as an array without "
            "objects (.npy), or as MATLAB 7 (`save -v7`)."
        ) from None
    arrays = dict(_list_arrays(content))
    if len(arrays) != 1:
        raise DataError(
            f"The mask {path} must hold one matrix of whole numbers; it holds "
            f"{', '.join(arrays) or 'none'}. Save the mask alone."
        )
    return next(iter(arrays.values()))


def _list_arrays(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and array of each integer matrix, also in structures."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _list_arrays(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "biu":
            yield prefix + name, value
