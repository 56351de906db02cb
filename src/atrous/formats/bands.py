"""Writing of several one-band images as the bands of one TIFF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atrous.errors import DataError
from atrous.images.image_file import decode_image


def write_bands(files: Sequence[Path], target: Path) -> None:
    """Write the images as the bands of a TIFF, in their order and with their own depth.

    Raises:
        DataError: An image has more than one band, or another size or depth than the first.
    """
    import tifffile  # takes half a second

    bands = [np.asarray(decode_image(file).image) for file in files]
    for file, band in zip(files, bands, strict=True):
        if band.ndim != 2 or band.shape != bands[0].shape or band.dtype != bands[0].dtype:
            raise DataError(
                f"{file} has the shape {band.shape} and the depth {band.dtype}, but the bands of "
                f"one image must have one shape and depth; {files[0]} has {bands[0].shape} and "
                f"{bands[0].dtype}. Save each band as a grey image."
            )
    tifffile.imwrite(
        target,
        np.stack(bands),
        photometric="minisblack",
        planarconfig="separate",
        compression="zlib",
    )
