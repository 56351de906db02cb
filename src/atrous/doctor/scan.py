"""One pass over all files: each is read once, and a few facts are kept of it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from atrous.data.image_file import (
    UNREADABLE,
    DecodedImage,
    check_plain_file,
    decode_image,
    describe_unreadable,
)
from atrous.data.orientation import turn_back
from atrous.data.sample import (
    describe_float_mask,
    holds_indices,
    is_nearly_black,
    reduce_to_8_bits,
)
from atrous.doctor.facts import MAX_COLORS, ImageFacts, MaskFacts, PairFacts
from atrous.doctor.fit import (
    GRID,
    Grid,
    compute_fit,
    compute_image_edges,
    compute_label_edges,
)
from atrous.doctor.jpeg_damage import find_jpeg_damage
from atrous.doctor.object_ids import find_scattered
from atrous.doctor.prints import compute_print
from atrous.errors import DataError

CHUNK = 16
"""Pairs that one process reads at a time; neighbours in it are held against each other."""

_FLAT = 1.0
"""Standard deviation of brightness, of 255, below which an image counts as constant."""

_MAX_MIDDLE_SHARE = 0.9
"""Of ramps with the same middle value: more are outlines, which have a class of their own."""

_Read = TypeVar("_Read")


class PairPaths(NamedTuple):
    """An image and its mask to be read."""

    name: str
    image_path: Path
    mask_path: Path


class _ReadImage(NamedTuple):
    facts: ImageFacts
    edges: Grid | None
    stored_edges: Grid | None


class _ReadMask(NamedTuple):
    facts: MaskFacts
    edges: Grid | None


def scan_pairs(
    pairs: Sequence[PairPaths],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PairFacts]:
    """Read all pairs in as many processes as there are cores, and return the facts in order.

    Args:
        pairs: In the order of their names, so that neighbours are neighbours.
        workers: Processes; None for one per core, 1 to read in this one.
        progress: Called with how many pairs are done and how many there are.

    Raises:
        DataError: A reading process died, for want of memory as a rule.
    """
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    workers = min(workers or _count_cores(), max(len(chunks), 1))
    facts: list[PairFacts] = []
    try:
        for done in _map_chunks(chunks, workers):
            facts.extend(done)
            if progress is not None:
                progress(len(facts), len(pairs))
    except (BrokenProcessPool, MemoryError) as error:
        raise DataError(
            f"A process that reads images died after {len(facts)} of {len(pairs)} pairs, as a "
            "rule for want of memory. Try again with --workers 1; the file that does it is near "
            f"{chunks[len(facts) // CHUNK][0].image_path}."
        ) from error
    return facts


def scan_chunk(pairs: Sequence[PairPaths]) -> list[PairFacts]:
    """Read some pairs, and score each mask on its image and on its neighbours'."""
    read: list[tuple[_ReadImage | str, _ReadMask | str]] = []
    for pair in pairs:
        read.append((_try(_read_image, pair.image_path), _try(_read_mask, pair.mask_path)))
    masks = [None if isinstance(mask, str) else mask.edges for _, mask in read]
    facts = []
    for index, (pair, (image, mask)) in enumerate(zip(pairs, read, strict=True)):
        fit = None
        edges = masks[index]
        if not isinstance(image, str) and image.edges is not None and edges is not None:
            neighbors = {"next": index + 1, "previous": index - 1}
            others = {
                name: other
                for name, place in neighbors.items()
                if 0 <= place < len(masks) and (other := masks[place]) is not None
            }
            fit = compute_fit(image.edges, edges, others, image.stored_edges)
        facts.append(
            PairFacts(
                *pair,
                image=None if isinstance(image, str) else image.facts,
                mask=None if isinstance(mask, str) else mask.facts,
                image_error=image if isinstance(image, str) else None,
                mask_error=mask if isinstance(mask, str) else None,
                fit=fit,
            )
        )
    return facts


def _map_chunks(chunks: list[Sequence[PairPaths]], workers: int) -> Iterator[list[PairFacts]]:
    if workers == 1:
        yield from map(scan_chunk, chunks)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(scan_chunk, chunks)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _try(read: Callable[[Path], _Read], path: Path) -> _Read | str:
    try:
        return read(path)
    except UNREADABLE as error:
        return str(describe_unreadable(path, error))
    except DataError as error:
        return str(error)


def _read_image(path: Path) -> _ReadImage:
    """Read an image, JPEGs at a fraction of their size: all of the file is still decoded."""
    check_plain_file(path)
    content = path.read_bytes()
    decoded = decode_image(BytesIO(content), str(path), draft=("L", GRID))
    height, width = decoded.stated_hw
    is_jpeg = decoded.format in ("JPEG", "MPO")
    lossy = is_jpeg or decoded.format == "WEBP"
    shallow = reduce_to_8_bits(decoded.image, path)
    num_values = None if lossy else _count_values(decoded.image)
    full = shallow.convert("L")
    grey = full
    if max(full.size) > 4 * GRID:
        grey = full.reduce(max(1, min(full.size) // (2 * GRID)))
    shape, thumbnail = compute_print(grey)
    facts = ImageFacts(
        hw=(height, width),
        orientation=decoded.orientation,
        num_values=num_values,
        is_constant=float(np.asarray(full).std()) < _FLAT,
        darkness=_describe_darkness(decoded.image, shallow),
        damage=find_jpeg_damage(content) if is_jpeg else None,
        digest=hashlib.blake2b(content, digest_size=16).digest(),
        print=shape,
        thumbnail=thumbnail,
        notes=_list_notes(decoded),
    )
    stored = turn_back(grey, decoded.orientation)
    stored_edges = None if decoded.orientation == 1 else compute_image_edges(stored)
    return _ReadImage(facts, compute_image_edges(grey), stored_edges)


def _list_notes(decoded: DecodedImage) -> tuple[str, ...]:
    notes = {"damaged-exif": decoded.has_damaged_exif, "pages": decoded.has_more_pages}
    return tuple(code for code, holds in notes.items() if holds)


def _count_values(image: Image.Image) -> int | None:
    if image.mode.startswith("I"):
        number = len(np.unique(np.asarray(image)))
        return number if number <= MAX_COLORS else None
    colors = image.getcolors(MAX_COLORS)
    return None if colors is None else len(colors)


def _describe_darkness(image: Image.Image, shallow: Image.Image) -> str | None:
    """Say how bright the brightest pixel of an image is that 8 bits leave nearly black."""
    grey = np.asarray(shallow.convert("L"))  # darker than the brightest channel, and quick
    if not is_nearly_black(grey) or not is_nearly_black(np.asarray(shallow.convert("RGB"))):
        return None
    is_deep = image.mode.startswith("I")
    values = np.asarray(image) if is_deep else grey
    if values.std() < _FLAT:
        return None
    return f"brightest value {values.max()} of {65535 if is_deep else 255}"


def _read_mask(path: Path) -> _ReadMask:
    decoded = decode_image(path)
    image = decoded.image
    hw = image.height, image.width
    is_jpeg = decoded.format in ("JPEG", "MPO")
    notes = _list_notes(decoded)
    if image.mode == "F":
        raise DataError(describe_float_mask(path))
    if not holds_indices(image):
        counts: Any = image.convert("RGB").getcolors(MAX_COLORS)
        colors = None if counts is None else {color: count for count, color in counts}
        facts = MaskFacts(hw, image.mode, is_jpeg, None, colors, notes=notes)
        if facts.grey_values is not None:
            grey = np.asarray(image.convert("RGB").getchannel(0))
            facts = replace(facts, scattered=find_scattered(grey))
        return _ReadMask(facts, None)
    indices = np.asarray(image)
    if indices.dtype == bool:
        indices = indices.astype(np.uint8)
    num_ramps, num_edges = _count_ramps(indices)
    facts = MaskFacts(
        hw=hw,
        mode=image.mode,
        is_jpeg=is_jpeg,
        values=_count_indices(image, indices),
        colors=None,
        palette=_read_palette(image),
        num_ramps=num_ramps,
        num_edges=num_edges,
        scattered=find_scattered(indices),
        digest=hashlib.blake2b(indices.tobytes(), digest_size=16).digest(),
        notes=notes,
    )
    return _ReadMask(facts, compute_label_edges(indices))


def _count_indices(image: Image.Image, indices: npt.NDArray[np.integer]) -> dict[int, int]:
    if image.mode in ("L", "P"):
        return {value: count for value, count in enumerate(image.histogram()) if count}
    values, counts = np.unique(indices, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _read_palette(image: Image.Image) -> dict[int, tuple[int, int, int]]:
    numbers = image.getpalette("RGB") if image.mode == "P" else None
    if numbers is None:
        return {}
    counts = image.histogram()
    colors = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
    return {index: color for index, color in enumerate(colors) if counts[index]}


def _count_ramps(indices: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Count the edge pixels that lie between both neighbours in value, and all edge pixels.

    Interpolation turns the edge 3 3 9 9 into a ramp, 3 5 7 9. Outlines are like ramps, such as 1
    between 0 and 2, but all have the same value in the middle: they are not counted.
    """
    middles, num_edges = [], 0
    for plane in (indices, indices.T):
        rows, columns = np.nonzero(plane[:, :-2] != plane[:, 1:-1])
        left, middle, right = (plane[rows, columns + place].astype(np.int64) for place in range(3))
        middles.append(middle[(middle - left) * (right - middle) > 0])
        num_edges += len(rows)
    _, counts = np.unique(np.concatenate(middles), return_counts=True)
    num_ramps = int(counts.sum())
    if num_ramps and counts.max() >= _MAX_MIDDLE_SHARE * num_ramps:
        return 0, num_edges
    return num_ramps, num_edges
