"""The pixels of a GeoTIFF, read in windows."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atrous.errors import DataError
from atrous.extras import import_extra
from atrous.images import read_image
from atrous.images.array_file import ArrayFile
from atrous.images.arrays import mark_nodata, open_array
from atrous.images.image_file import check_size


class WindowedImage:
    """The pixels of an open GeoTIFF, which engines read window by window, as from a tensor.

    `bands` is the number of the model's bands, None for 8-bit RGB. `max_pixels` limits an image
    that is read whole.
    """

    def __init__(self, opened: Any, path: Path, bands: int | None, max_pixels: int) -> None:
        self.opened, self.path, self.bands, self.max_pixels = opened, path, bands, max_pixels
        self.shape = (bands or 3, opened.height, opened.width)
        colors = {i: one.name for i, one in zip(opened.indexes, opened.colorinterp, strict=True)}
        self._last: tuple[int, int, Tensor, npt.NDArray[np.bool_]]
        self._indexes = [i for i in colors if colors[i] != "alpha" or len(colors) == bands]
        self._whole: Tensor | None = None
        if not self._is_readable(open_array(path, str(path), bands=bands), colors):
            self._whole = read_image(path, max_pixels=max_pixels, bands=bands)
        flags = {flag.name for band in opened.mask_flag_enums for flag in band}
        self._has_mask = self._whole is not None or not flags <= {"all_valid", "nodata"}

    def __getitem__(self, place: tuple[slice, slice, slice]) -> Tensor:
        """Read a window: float32 (bands, rows, columns) with NaN, or uint8 (3, rows, columns)."""
        window = self.find_window(*place[1:])
        pixels = self._whole[place] if self._whole is not None else self._read(window=window)
        self._last = place[1].start, place[2].start, pixels, self._find_nodata(pixels, window)
        return pixels

    def to(self, device: torch.device) -> Tensor:
        """Read the whole image."""
        check_size((self.opened.height, self.opened.width), self.max_pixels, str(self.path))
        return self[:, 0 : self.shape[1], 0 : self.shape[2]].to(device)

    def crop_last(self, rows: slice, columns: slice) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """Return a part of the window that was read last, and which of its pixels have no data."""
        top, left, pixels, missing = self._last
        place = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        return pixels[:, *place], missing[place]

    def find_window(self, rows: slice, columns: slice) -> Any:
        """Return a window of rasterio."""
        windows = import_extra("rasterio.windows", "geo")
        return windows.Window.from_slices(rows, columns)

    def _is_readable(self, array: ArrayFile | None, colors: dict[int, str]) -> bool:
        """Return whether windows have the values that `read_image` gives."""
        if self.bands is not None:
            return array is not None and len(self._indexes) == self.bands
        flags = self.opened.tags(ns="IMAGE_STRUCTURE") | self.opened.tags(1, ns="IMAGE_STRUCTURE")
        is_reduced = not flags.keys().isdisjoint({"NBITS", "MINISWHITE"})
        shown = [colors[index] for index in self._indexes]
        return array is None and not is_reduced and shown in (["gray"], ["red", "green", "blue"])

    def _read(self, window: Any) -> Tensor:
        try:
            array = self.opened.read(self._indexes, window=window)
        except Exception as error:  # damaged files raise errors of GDAL
            raise DataError(
                f"Cannot read {self.path} as an image: {error}. Copy or export it again."
            ) from error
        if self.bands is None:
            return torch.from_numpy(array).expand(3, -1, -1)
        values = mark_nodata(np.moveaxis(array, 0, -1), self.opened.nodata)
        return torch.from_numpy(values).permute(2, 0, 1)

    def _find_nodata(self, pixels: Tensor, window: Any) -> npt.NDArray[np.bool_]:
        """Return which pixels of a window have no data, by NaN, nodata value, mask or alpha."""
        missing = np.zeros(pixels.shape[1:], np.bool_)
        if self._has_mask:
            missing |= self.opened.dataset_mask(window=window) == 0
        elif self.bands is None and self.opened.nodata is not None:
            missing |= (pixels == self.opened.nodata).all(dim=0).numpy()
        if self.bands is not None:
            missing |= pixels[0].isnan().numpy()
        return missing
