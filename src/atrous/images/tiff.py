"""TIFF files of any depth and number of bands."""

import logging
import warnings
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from atrous.errors import ConfigError, DataError
from atrous.extras import import_extra
from atrous.images.array_file import Array, ArrayFile, read_all
from atrous.images.image_file import MAX_PAGES
from atrous.images.orientation import turn_array
from atrous.images.shard_file import File, open_source

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_REDUCED_OR_MASK = 0b101
_ALPHA = (1, 2)
_PILLOW_BANDS = {0: (1,), 1: (1,), 2: (3,), 5: (4,)}
"""Numbers of bands of each photometric interpretation (grey, RGB, CMYK) that Pillow keeps."""

_ORIENTATION, _NODATA, _GEO_TAGS = 274, 42113, (33550, 34264)
_DEFLATE = (8, 32946)

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what matters is raised


def open_tiff(source: Path | BinaryIO, page: int, bands: int | None) -> ArrayFile | None:
    """Read the header of a page; None if Pillow reads it as 8-bit grey, RGB or CMYK without loss.

    Raises:
        DataError: The page has other axes than rows, columns and bands.
        Exception: The file is damaged.
    """
    with _open(source) as tiff:
        first: Any = tiff.pages[page]
        pages = found = _list_pages(tiff.pages)
        if page or len(found) != bands or not _are_alike([tiff.pages[i] for i in found]):
            pages = [page]
        samples, extras = first.samplesperpixel, list(first.extrasamples)
        tags = first.tags
    is_alpha = [False] * (samples - len(extras)) + [extra in _ALPHA for extra in extras]
    is_8_bit = first.dtype is not None and first.dtype.str in ("|u1", "|b1")
    kept_by_pillow = _PILLOW_BANDS.get(int(first.photometric), (samples,))
    if is_8_bit and samples - sum(is_alpha) in kept_by_pillow and len(pages) == 1:
        return None
    if first.axes not in ("YX", "YXS", "SYX"):
        raise DataError(f"it is a TIFF with the axes {first.axes}; an image has rows and columns.")
    kept = [i for i in range(samples) if samples == bands or not is_alpha[i]]
    orientation = tags.valueof(_ORIENTATION, 1)
    orientation = orientation if orientation in range(1, 9) else 1

    def read() -> Array:
        parts = [_read_page(source, index) for index in pages]
        array = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0][..., kept]
        return turn_array(array, orientation)

    return ArrayFile(
        size_hw=(first.imagelength, first.imagewidth),
        num_bands=len(pages) * len(kept),
        dtype="" if first.dtype is None else first.dtype.newbyteorder("<").str,
        read=read,
        orientation=orientation,
        nodata=_parse_number(tags.valueof(_NODATA)),
        num_pages=1 if len(pages) > 1 else len(found),
    )


def is_georeferenced(path: File) -> bool:
    """Return whether a file is a GeoTIFF: an upright TIFF with a transform to coordinates."""
    with suppress(Exception):  # damaged: described when it is read
        source = open_source(path)
        with open(source, "rb") if isinstance(source, Path) else source as file:
            if file.read(4) in TIFF_STARTS:
                with _open(file) as tiff:
                    tags = tiff.pages.first.tags
                    is_upright = tags.valueof(_ORIENTATION, 1) == 1
                    return is_upright and any(tag in tags for tag in _GEO_TAGS)
    return False


def _open(source: Path | BinaryIO) -> Any:
    import tifffile  # takes half a second

    if not isinstance(source, Path):
        source.seek(0)
    return tifffile.TiffFile(source)


def _list_pages(pages: Any) -> list[int]:
    """Return the indices of the intact pages that are no reduced copies or transparency masks."""
    found = []
    with suppress(Exception):  # a damaged page ends the list
        for index in range(min(len(pages), MAX_PAGES)):
            if not pages[index].subfiletype & _REDUCED_OR_MASK:
                found.append(index)
    return found


def _are_alike(pages: list[Any]) -> bool:
    """Return whether pages have one band each, of the same size and type."""
    return pages[0].ndim == 2 and len({(page.shape, page.dtype) for page in pages}) == 1


def _read_page(source: Path | BinaryIO, index: int) -> Array:
    """Return a page as (H, W, samples), by GDAL if tifffile cannot decompress it."""
    with _open(source) as tiff:
        page: Any = tiff.pages[index]
        if not isinstance(source, Path) and page.compression in _DEFLATE:
            _check_inflated(page)
        try:
            array = page.asarray()
        except (ValueError, ImportError) as error:
            if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                raise
            return _read_by_gdal(source, index, page.compression.name)
    if array.ndim == 2:
        return array[..., None]
    return np.moveaxis(array, 0, -1) if page.axes == "SYX" else array


def _read_by_gdal(source: Path | BinaryIO, index: int, compression: str) -> Array:
    try:
        rasterio = import_extra("rasterio", "geo")
    except ConfigError as error:
        raise DataError(f"it is compressed with {compression}. {error}") from error
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # that it has no coordinates
        path = str(source)
        if not isinstance(source, Path):
            memory = rasterio.io.MemoryFile(read_all(source))
            path = stack.enter_context(memory).name
        with rasterio.open(f"GTIFF_DIR:{index + 1}:{path}", driver="GTiff") as opened:
            return np.moveaxis(opened.read(), 0, -1)


def _check_inflated(page: Any) -> None:
    """Raise ValueError if a part of a page is larger than its header states: a bomb."""
    height, width = page.rowsperstrip, page.imagewidth
    if page.is_tiled:
        height, width = page.tilelength, page.tilewidth
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    num_bytes = min(height, page.imagelength + page.tilelength) * width * samples
    num_bytes *= page.dtype.itemsize
    file = page.parent.filehandle
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(start)
        if len(zlib.decompressobj().decompress(file.read(length), num_bytes + 1)) > num_bytes:
            raise ValueError("a part of it is larger than its header states")


def _parse_number(text: Any) -> float | None:
    try:
        return float(text)
    except (ValueError, TypeError):
        return None
