"""Read an image or a mask file and compute its facts."""

import hashlib
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
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
    """Read an image of `bands` bands, if `classes.toml` says so; JPEGs whole, but at reduced size.

    Returns:
        The facts, the edges of the upright image (None if it has none), and the edges of the image
        as stored (None if it is stored upright).
    """
    if isinstance(path, Path):
        check_plain_file(path)
    content = path.read_bytes()
    decoded, band_facts = _decode(path, content, bands)
    is_jpeg = _is_jpeg(decoded)
    grey = full = decoded.image.convert("L")
    if max(full.size) > 4 * GRID:
        grey = full.reduce(max(1, min(full.size) // (2 * GRID)))
    values = np.asarray(full)
    is_constant = float(values.std()) < _MIN_DEVIATION
    notes = _list_notes(decoded)
    if is_jpeg and (damage := _find_jpeg_damage(content)) is not None:
        notes["damaged-jpeg"] = damage
    if is_constant:
        notes["constant-image"] = ""
    elif (
        band_facts is None
        and is_nearly_black(values)  # cheap test first: not above the brightest channel
        and is_nearly_black(np.asarray(decoded.image.convert("RGB")))
    ):
        notes["nearly-black"] = f"brightest value {values.max()} of 255"
    colors = None if is_jpeg or decoded.format == "WEBP" else decoded.image.getcolors(MAX_COLORS)
    image_hash, thumbnail = compute_hash(grey)
    facts = ImageFacts(
        hw=decoded.stated_hw,
        orientation=decoded.orientation,
        num_values=None if colors is None else len(colors),
        is_constant=is_constant,
        digest=hashlib.blake2b(content, digest_size=16).digest(),
        image_hash=image_hash,
        thumbnail=thumbnail,
        notes=notes,
        bands=band_facts,
    )
    stored = turn_back(grey, decoded.orientation)
    stored_edges = None if decoded.orientation == 1 else compute_image_edges(stored)
    return facts, compute_image_edges(grey), stored_edges


def _decode(path: File, content: bytes, bands: int | None) -> tuple[DecodedImage, BandFacts | None]:
    """Return an image, of its own depth a preview and the facts of its bands."""
    opened = open_array(path, str(path), bands=bands)
    if opened is None:
        return decode_image(BytesIO(content), str(path), draft=("L", GRID)), None
    check_size(opened.size_hw, MAX_PIXELS, "")
    array = opened.read()
    values = np.moveaxis(mark_nodata(array, opened.nodata), -1, 0)
    facts = BandFacts(
        kind=describe_bands(opened),
        samples=draw_pixels(values, _NUM_DRAWN, seed=0),
        share_missing=int(np.isnan(values[0]).sum()) / values[0].size,
    )
    decoded = DecodedImage(
        image=render_preview(np.moveaxis(values, 0, -1)),
        format="",
        stated_hw=opened.upright_hw,
        orientation=opened.orientation,
        has_more_pages=opened.num_pages > 1,
        has_damaged_exif=False,
    )
    return decoded, facts


def read_mask_facts(path: File) -> tuple[MaskFacts, Grid | None]:
    """Read a mask; returns the facts and its label edges (None for colours or without edges)."""
    decoded = decode_image(path)
    image = decoded.image
    if image.mode == "F":
        raise DataError(describe_float_mask(path))
    build = partial(
        MaskFacts,
        hw=(image.height, image.width),
        mode=image.mode,
        is_jpeg=_is_jpeg(decoded),
        notes=_list_notes(decoded),
    )
    if not holds_indices(image):
        rgb = image.convert("RGB")
        counts: Any = rgb.getcolors(MAX_COLORS)
        facts = build(colors=counts and {color: count for count, color in counts})
        if facts.grey_values is not None:
            facts = replace(facts, scattered=find_scattered(np.asarray(rgb.getchannel(0))))
        return facts, None
    indices = np.asarray(image)
    if indices.dtype == bool:
        indices = indices.astype(np.uint8)
    values = _count_indices(image, indices)
    num_ramps, num_edges = _count_ramps(indices)
    facts = build(
        values=values,
        palette=_read_palette(image, values.keys()),
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


def _find_jpeg_damage(content: bytes) -> str | None:
    """Decode a JPEG and return the decoder's first warning of damage; None without one.

    Pillow drops libjpeg's warnings. torchvision's decoder, where it is built in, prints them to the
    standard error of the process, which is captured here; all other output is passed on.
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


def _read_palette(image: Image.Image, values: Collection[int]) -> dict[int, Color]:
    numbers = (image.getpalette("RGB") if image.mode == "P" else None) or ()
    colors = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
    return {index: color for index, color in enumerate(colors) if index in values}


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
