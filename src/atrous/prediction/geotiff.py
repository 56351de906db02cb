"""Segmentation of GeoTIFFs, read and written in windows, with their coordinates."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atrous.bands import Ranges
from atrous.classes import IGNORE_INDEX, Classes
from atrous.engines.engine import Engine
from atrous.errors import DataError
from atrous.extras import import_extra
from atrous.files import sync, write_atomically
from atrous.images.pixels import convert_to_rgb
from atrous.prediction.annotations import build_geojson, write_json, write_rle
from atrous.prediction.job_options import JobOptions
from atrous.prediction.outputs import FILES
from atrous.prediction.prediction import predict_blocks
from atrous.prediction.render import OVERLAY_SIDE_PX, write_overlay
from atrous.prediction.sources import Source
from atrous.prediction.windowed_image import WindowedImage

MAX_RLE_PIXELS = 2**26

_RASTERS = ("mask", "confidence")
_CACHE_MB = 256
_PROFILE = {
    "driver": "GTiff", "dtype": "uint8", "count": 1, "compress": "deflate", "zlevel": 1,
    "tiled": True, "blockxsize": 512, "blockysize": 512, "bigtiff": "if_safer",
}  # fmt: skip


def segment_geotiff(
    engine: Engine, source: Source, out: Path, options: JobOptions
) -> tuple[list[str], dict[str, Any]]:
    """Segment a GeoTIFF and write its files, each atomically; memory holds some rows of windows.

    Mask and confidence are GeoTIFFs with the transform and CRS of the image. In the mask, pixels
    without data are 255. Returns the files, and what the manifest records of the mask; raises
    DataError if the image cannot be read, or an output kind is not possible.
    """
    assert source.path is not None
    names = options.name_outputs(source)
    kinds = [kind for kind in FILES if kind in options.kinds]
    paths = dict(zip(kinds, (out / name for name in names), strict=True))
    (out / options.name_stem(source)).parent.mkdir(parents=True, exist_ok=True)
    with _open(source.path) as opened, TemporaryDirectory(prefix=".", dir=out) as folder:
        image = WindowedImage(opened, source.path, engine.card.bands, options.max_pixels)
        _check_kinds(options.kinds, opened, source)
        rasters = {kind: Path(folder) / f"{kind}.tif" for kind in _RASTERS}
        small = _ReducedImage(opened.height, opened.width) if "overlay" in paths else None
        counts = _write_rasters(engine, image, opened, rasters, options, small)
        if small is not None:
            write = partial(write_overlay, image=small.image, mask=small.mask)
            write_atomically(paths["overlay"], partial(write, classes=engine.classes))
        with _open(rasters["mask"]) as mask:
            _write_others(engine.classes, mask, source, paths)
        for kind in paths.keys() & rasters.keys():
            sync(rasters[kind])
            os.replace(rasters[kind], paths[kind])
        shares = counts / counts.sum()
        known = (*shares[: len(engine.classes)].tolist(), float(shares[IGNORE_INDEX]))
        return names, {"height": opened.height, "width": opened.width, "shares": known}


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    rasterio = import_extra("rasterio", "geo")
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        warnings.simplefilter("ignore")  # that a file has no coordinates
        try:
            opened = rasterio.open(path, driver="GTiff")
        except rasterio.errors.RasterioError as error:
            raise DataError(
                f"Cannot read {path} as an image: {error}. Copy or export it again."
            ) from error
        with opened:
            yield opened


def _check_kinds(kinds: tuple[str, ...], opened: Any, source: Source) -> None:
    if "probs" in kinds:
        raise DataError(
            f"{source.source} is a GeoTIFF, of which the probabilities of all classes are not "
            "written. Leave probs out of --save; confidence has that of the likeliest class."
        )
    if "rle" in kinds and opened.height * opened.width > MAX_RLE_PIXELS:
        raise DataError(
            f"{source.source} has {opened.width} × {opened.height} pixels, which is too large for "
            "run lengths. Leave rle out of --save; geojson has the regions as polygons."
        )


def _write_rasters(
    engine: Engine,
    image: WindowedImage,
    opened: Any,
    paths: dict[str, Path],
    options: JobOptions,
    small: "_ReducedImage | None",
) -> npt.NDArray[np.int64]:
    """Write mask and confidence block by block, and return the number of pixels per value."""
    rasterio = import_extra("rasterio", "geo")
    with_confidence = "confidence" in options.kinds
    profile = _PROFILE | {
        "height": opened.height, "width": opened.width,
        "transform": opened.transform, "crs": opened.crs,
    }  # fmt: skip
    counts = np.zeros(IGNORE_INDEX + 1, np.int64)
    blocks = predict_blocks(
        engine,
        cast("Tensor", image),
        confidence=with_confidence,
        min_confidence=options.min_confidence,
    )
    palette = {index: (*color, 255) for index, color in enumerate(engine.classes.colors)}
    with ExitStack() as stack:
        mask_file = rasterio.open(paths["mask"], "w", **profile, nodata=IGNORE_INDEX)
        stack.enter_context(mask_file).write_colormap(1, palette)
        if with_confidence:
            confidence_file = rasterio.open(paths["confidence"], "w", **profile)
            stack.enter_context(confidence_file)
        for rows, columns, block in blocks:
            indices = block.mask.numpy()
            pixels, missing = image.crop_last(rows, columns)
            indices[missing] = IGNORE_INDEX
            if small is not None:
                small.update(rows, columns, pixels, block.mask, engine.card.ranges)
            counts += np.bincount(indices.ravel(), minlength=IGNORE_INDEX + 1)
            window = image.find_window(rows, columns)
            mask_file.write(indices, 1, window=window)
            if block.confidence is not None:
                confidence_file.write(block.confidence.numpy(), 1, window=window)
    return counts


class _ReducedImage:
    """Every nth pixel of an image and its mask, taken block by block, for the overlay."""

    def __init__(self, height: int, width: int) -> None:
        factor = min(1.0, OVERLAY_SIDE_PX / max(height, width))
        self.rows, self.columns = (
            ((np.arange(max(1, round(size * factor))) + 0.5) / factor)
            .astype(int)
            .clip(max=size - 1)
            for size in (height, width)
        )
        self.image = torch.zeros(3, len(self.rows), len(self.columns), dtype=torch.uint8)
        self.mask = torch.zeros(self.image.shape[1:], dtype=torch.uint8)

    def update(
        self, rows: slice, columns: slice, pixels: Tensor, mask: Tensor, ranges: Ranges | None
    ) -> None:
        top, bottom = np.searchsorted(self.rows, (rows.start, rows.stop))
        left, right = np.searchsorted(self.columns, (columns.start, columns.stop))
        y = torch.from_numpy(self.rows[top:bottom] - rows.start)[:, None]
        x = torch.from_numpy(self.columns[left:right] - columns.start)
        self.image[:, top:bottom, left:right] = convert_to_rgb(pixels[:, y, x], ranges)
        self.mask[top:bottom, left:right] = mask[y, x]


def _write_others(classes: Classes, mask: Any, source: Source, paths: dict[str, Path]) -> None:
    if "rle" in paths:
        write = partial(write_rle, source=source.source, mask=mask.read(1), classes=classes)
        write_atomically(paths["rle"], write)
    if "geojson" in paths:
        rasterio = import_extra("rasterio", "geo")
        content = build_geojson(rasterio.band(mask, 1), classes, mask.transform, mask.crs)
        write_atomically(paths["geojson"], partial(write_json, content=content))
