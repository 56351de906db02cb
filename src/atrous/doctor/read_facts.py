"""Read an image or a mask file and compute its facts."""

import hashlib
import os
import re
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from atrous.classes import Color
from atrous.data.band_statistics import draw_pixels
from atrous.data.object_ids import find_scattered
from atrous.doctor.facts import MAX_COLORS, BandFacts, ImageFacts, MaskFacts
from atrous.doctor.fit import GRID, Grid, compute_image_edges, compute_label_edges
from atrous.errors import DataError
from atrous.images.array_file import ArrayFile
from atrous.images.arrays import describe_bands, mark_nodata, open_array
from atrous.images.image_file import (
    MAX_PIXELS,
    DecodedImage,
    check_plain_file,
    check_size,
    decode_image,
)
from atrous.images.image_hash import compute_hash
from atrous.images.orientation import turn_back
from atrous.images.reading import (
    describe_float_mask,
    holds_indices,
    is_nearly_black,
    render_preview,
)
from atrous.images.shard_file import File

_MIN_DEVIATION = 1.0
"""Standard deviation of brightness, of 255, below which an image counts as constant."""

_MAX_MIDDLE_SHARE = 0.9
"""Share of ramps with the same middle value, from which they are outlines with their own class."""

_JPEG_DAMAGE = re.compile(
    r"Corrupt JPEG data: (?!bad ICC)[^\n]+"
    r"|Premature end of JPEG file|Inconsistent progression sequence[^\n]+"
)
_JPEG_PADDING = re.compile(r"\b[1-4] extraneous bytes before marker 0xd9")
"""Some cameras append a few bytes to the pixels."""

_NUM_DRAWN = 512
"""Pixels whose values are kept of an image that is not 8-bit RGB."""

_STDERR = 2
_CAPTURING = threading.Lock()


def read_image_facts(
    path: File, bands: int | None = None
) -> tuple[ImageFacts, Grid | None, Grid | None]:
    """Read an image; JPEGs are decoded whole, but at reduced size.

    Args:
        path: The file.
        bands: Number of bands in `classes.toml`, if it is given.

    Returns:
        The facts, the edges of the upright image (None if it has none), and the edges of the image
        as stored (None if it is stored upright).
    """
    if isinstance(path, Path):
        check_plain_file(path)
    content = path.read_bytes()
    band_facts = None
    if opened := open_array(path, str(path), bands=bands):
        decoded, band_facts = _decode_array(opened)
    else:
        decoded = decode_image(BytesIO(content), str(path), draft=("L", GRID))
    is_jpeg = _is_jpeg(decoded)
    full = decoded.image.convert("L")
    grey = full
    if max(full.size) > 4 * GRID:
        grey = full.reduce(max(1, min(full.size) // (2 * GRID)))
    is_constant = float(np.asarray(full).std()) < _MIN_DEVIATION
    darkness = _describe_darkness(decoded.image) if band_facts is None else None
    damage = _find_jpeg_damage(content) if is_jpeg else None
    notes = {
        "damaged-jpeg": damage,
        "nearly-black": darkness,
        "constant-image": "" if is_constant and darkness is None else None,
    }
    image_hash, thumbnail = compute_hash(grey)
    facts = ImageFacts(
        hw=decoded.stated_hw,
        orientation=decoded.orientation,
        num_values=None if is_jpeg or decoded.format == "WEBP" else _count_values(decoded.image),
        is_constant=is_constant,
        digest=hashlib.blake2b(content, digest_size=16).digest(),
        image_hash=image_hash,
        thumbnail=thumbnail,
        notes=_list_notes(decoded) | {k: text for k, text in notes.items() if text is not None},
        bands=band_facts,
    )
    stored = turn_back(grey, decoded.orientation)
    stored_edges = None if decoded.orientation == 1 else compute_image_edges(stored)
    return facts, compute_image_edges(grey), stored_edges


def _decode_array(opened: ArrayFile) -> tuple[DecodedImage, BandFacts]:
    """Read an image at its own depth; returns a preview, and the facts of its bands."""
    check_size(opened.size_hw, MAX_PIXELS, "")
    array = opened.read()
    values = np.moveaxis(mark_nodata(array, opened.nodata), -1, 0)
    num_missing = int(np.isnan(values[0]).sum())
    facts = BandFacts(
        kind=describe_bands(opened),
        num_bands=opened.num_bands,
        samples=draw_pixels(values, _NUM_DRAWN, seed=0),
        share_missing=num_missing / values[0].size,
    )
    height, width = opened.upright_hw
    preview = render_preview(np.moveaxis(values, 0, -1))
    has_more_pages = opened.num_pages > 1
    decoded = DecodedImage(
        preview, "", (height, width), opened.orientation, has_more_pages, has_damaged_exif=False
    )
    return decoded, facts


def read_mask_facts(path: File) -> tuple[MaskFacts, Grid | None]:
    """Read a mask; returns the facts and its label edges (None for colours or without edges)."""
    decoded = decode_image(path)
    image = decoded.image
    if image.mode == "F":
        raise DataError(describe_float_mask(path))
    facts = MaskFacts(
        hw=(image.height, image.width),
        mode=image.mode,
        is_jpeg=_is_jpeg(decoded),
        values=None,
        colors=None,
        notes=_list_notes(decoded),
    )
    if not holds_indices(image):
        counts: Any = image.convert("RGB").getcolors(MAX_COLORS)
        if counts is not None:
            facts = replace(facts, colors={color: count for count, color in counts})
        if facts.grey_values is not None:
            grey = np.asarray(image.convert("RGB").getchannel(0))
            facts = replace(facts, scattered=find_scattered(grey))
        return facts, None
    indices = np.asarray(image)
    if indices.dtype == bool:
        indices = indices.astype(np.uint8)
    num_ramps, num_edges = _count_ramps(indices)
    facts = replace(
        facts,
        values=_count_indices(image, indices),
        palette=_read_palette(image),
        num_ramps=num_ramps,
        num_edges=num_edges,
        scattered=find_scattered(indices),
        digest=hashlib.blake2b(indices.tobytes(), digest_size=16).digest(),
    )
    return facts, compute_label_edges(indices)


def _is_jpeg(decoded: DecodedImage) -> bool:
    return decoded.format in ("JPEG", "MPO")


def _list_notes(decoded: DecodedImage) -> dict[str, str]:
    notes = {"damaged-exif": decoded.has_damaged_exif, "pages": decoded.has_more_pages}
    return {code: "" for code, holds in notes.items() if holds}


def _count_values(image: Image.Image) -> int | None:
    colors = image.getcolors(MAX_COLORS)
    return None if colors is None else len(colors)


def _describe_darkness(image: Image.Image) -> str | None:
    """Return the maximum brightness of an image that is nearly black; else None."""
    grey = np.asarray(image.convert("L"))  # cheap test first: not above the brightest channel
    if not is_nearly_black(grey) or not is_nearly_black(np.asarray(image.convert("RGB"))):
        return None
    return None if grey.std() < _MIN_DEVIATION else f"brightest value {grey.max()} of 255"


def _find_jpeg_damage(content: bytes) -> str | None:
    """Decode a JPEG and return the decoder's first warning of damage; None without one.

    Pillow drops libjpeg's warnings. torchvision's decoder prints them to the standard error of the
    process, which is captured here; all other output is passed on. None if torchvision has no
    JPEG decoder.
    """
    import torch
    from torchvision import io

    if not hasattr(io, "decode_jpeg"):
        return None
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with _CAPTURING, tempfile.TemporaryFile() as log:
        stderr = os.dup(_STDERR)
        os.dup2(log.fileno(), _STDERR)
        try:
            with suppress(RuntimeError), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                io.decode_jpeg(values, io.ImageReadMode.GRAY)
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
        log.seek(0)
        text = log.read().decode(errors="replace")
    found = _JPEG_DAMAGE.search(text)
    if others := _JPEG_DAMAGE.sub("", text).strip():
        print(others, file=sys.stderr)
    if found is None or _JPEG_PADDING.search(found[0]):
        return None
    return found[0].removeprefix("Corrupt JPEG data: ")


def _count_indices(image: Image.Image, indices: npt.NDArray[np.integer]) -> dict[int, int]:
    if image.mode in ("L", "P"):
        return {value: count for value, count in enumerate(image.histogram()) if count}
    values, counts = np.unique(indices, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _read_palette(image: Image.Image) -> dict[int, Color]:
    numbers = image.getpalette("RGB") if image.mode == "P" else None
    if numbers is None:
        return {}
    counts = image.histogram()
    colors = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
    return {index: color for index, color in enumerate(colors) if counts[index]}


def _count_ramps(indices: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Count the edge pixels whose value lies between both neighbours, and all edge pixels.

    Interpolation turns the edge 3 3 9 9 into a ramp, 3 5 7 9. An outline, such as 1 between 0 and
    2, is also a ramp, but always with the same middle value; outlines are not counted.
    """
    middles, num_edges = [], 0
    for plane in (indices, indices.T):
        rows, columns = np.nonzero(plane[:, :-2] != plane[:, 1:-1])
        left, middle, right = (plane[rows, columns + i].astype(np.int64) for i in range(3))
        middles.append(middle[(middle - left) * (right - middle) > 0])
        num_edges += len(rows)
    _, counts = np.unique(np.concatenate(middles), return_counts=True)
    num_ramps = int(counts.sum())
    if num_ramps and counts.max() >= _MAX_MIDDLE_SHARE * num_ramps:
        return 0, num_edges
    return num_ramps, num_edges
