"""The pixels of a GeoTIFF, read in windows."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atrous.data import read_image
from atrous.data.array_file import ArrayFile
from atrous.data.arrays import mark_nodata, open_array
from atrous.data.image_file import check_size
from atrous.errors import DataError
from atrous.extras import import_extra


class WindowedImage:
    """The pixels of an open GeoTIFF, which engines read window by window, as from a tensor.

    Args:
        opened: The dataset of rasterio.
        path: Its file.
        bands: Number of bands of the model; None for 8-bit RGB.
        max_pixels: Limit on the pixels of an image that is read whole.
    """

    def __init__(self, opened: Any, path: Path, bands: int | None, max_pixels: int) -> None:
        self.opened, self.path, self.bands, self.max_pixels = opened, path, bands, max_pixels
        self.shape = (bands or 3, opened.height, opened.width)
        colors = {
            i: color.name for i, color in zip(opened.indexes, opened.colorinterp, strict=True)
        }
        self._indexes = [i for i in colors if colors[i] != "alpha" or len(colors) == bands]
        self._whole: Tensor | None = None
        if not self._is_readable(open_array(path, str(path), bands=bands), colors):
            self._whole = read_image(path, max_pixels=max_pixels, bands=bands)

    def __getitem__(self, place: tuple[slice, slice, slice]) -> Tensor:
        """Read a window: float32 (bands, rows, columns) with NaN, or uint8 (3, rows, columns)."""
        if self._whole is not None:
            return self._whole[place]
        return self._convert(self._read(window=self.find_window(*place[1:])))

    def to(self, device: torch.device) -> Tensor:
        """Read the whole image."""
        check_size((self.opened.height, self.opened.width), self.max_pixels, str(self.path))
        return self[:, 0 : self.shape[1], 0 : self.shape[2]].to(device)

    def read_small(self, max_side_px: int) -> Tensor:
        """Read the image with at most `max_side_px` pixels on a side, by skipping pixels."""
        if self._whole is not None:
            return self._whole
        size_hw = reduce_hw(self.opened, max_side_px)
        return self._convert(self._read(out_shape=(len(self._indexes), *size_hw)))

    def find_nodata(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """Return which pixels of a window have no data, by NaN, nodata value, mask or alpha."""
        missing = self.opened.dataset_mask(window=self.find_window(rows, columns)) == 0
        if self.bands is not None:
            missing |= self[:, rows, columns][0].isnan().numpy()
        return missing

    def find_window(self, rows: slice, columns: slice) -> Any:
        """Return a window of rasterio."""
        windows = import_extra("rasterio.windows", "geo")
        return windows.Window(
            columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        )

    def _is_readable(self, array: ArrayFile | None, colors: dict[int, str]) -> bool:
        """Return whether windows have the values that `read_image` gives."""
        if self.bands is not None:
            return array is not None and len(self._indexes) == self.bands
        structure = self.opened.tags(ns="IMAGE_STRUCTURE") | self.opened.tags(
            1, ns="IMAGE_STRUCTURE"
        )
        is_reduced = not structure.keys().isdisjoint({"NBITS", "MINISWHITE"})
        shown = [colors[index] for index in self._indexes]
        return array is None and not is_reduced and shown in (["gray"], ["red", "green", "blue"])

    def _read(self, **options: Any) -> npt.NDArray[Any]:
        try:
            return self.opened.read(self._indexes, **options)
        except Exception as error:  # damaged files raise errors of GDAL
            raise DataError(
                f"Cannot read {self.path} as an image: {error}. Copy or export it again."
            ) from error

    def _convert(self, array: npt.NDArray[Any]) -> Tensor:
        if self.bands is None:
            return torch.from_numpy(array).expand(3, -1, -1)
        values = mark_nodata(np.moveaxis(array, 0, -1), self.opened.nodata)
        return torch.from_numpy(values).permute(2, 0, 1)


def reduce_hw(opened: Any, max_side_px: int) -> tuple[int, int]:
    """Return the size of a dataset of rasterio, reduced to at most `max_side_px` on a side."""
    factor = min(1.0, max_side_px / max(opened.height, opened.width))
    return max(1, round(opened.height * factor)), max(1, round(opened.width * factor))
