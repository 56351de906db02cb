"""One pass over all files: each is read once, and a few facts are kept of it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from atrous.data.image_file import UNREADABLE, DecodedImage, decode_image, describe_unreadable
from atrous.data.orientation import turn_back
from atrous.data.sample import holds_indices, reduce_to_8_bits
from atrous.doctor.facts import MOST_COLORS, ImageFacts, MaskFacts, PairFacts
from atrous.doctor.fit import (
    GRID,
    Grid,
    compute_fit,
    compute_label_edges,
    compute_picture_edges,
)
from atrous.doctor.prints import compute_print
from atrous.errors import DataError

CHUNK = 16
"""Pairs that one process reads at a time; neighbours in it are held against each other."""

_FLAT = 1.0
"""Standard deviation of brightness, of 255, below which a picture counts as constant."""

_Read = TypeVar("_Read")


class PairPaths(NamedTuple):
    """A picture and its mask to be read."""

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
            f"A process that reads pictures died after {len(facts)} of {len(pairs)} pairs, as a "
            "rule for want of memory. Try again with --workers 1; the file that does it is near "
            f"{chunks[len(facts) // CHUNK][0].image_path}."
        ) from error
    return facts


def scan_chunk(pairs: Sequence[PairPaths]) -> list[PairFacts]:
    """Read some pairs, and score each mask on its picture and on its neighbours'."""
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
    """Read a picture, JPEGs at a fraction of their size: all of the file is still decoded."""
    content = path.read_bytes()
    decoded = decode_image(BytesIO(content), str(path), draft=("L", GRID))
    height, width = decoded.stated_hw
    lossy = decoded.format in ("JPEG", "MPO", "WEBP")
    shallow = reduce_to_8_bits(decoded.picture, path)
    num_values = None if lossy else _count_values(shallow)
    grey = shallow.convert("L")
    if max(grey.size) > 4 * GRID:
        grey = grey.reduce(max(1, min(grey.size) // (2 * GRID)))
    shape, thumbnail = compute_print(grey)
    facts = ImageFacts(
        hw=(height, width),
        orientation=decoded.orientation,
        num_values=num_values,
        is_constant=float(np.asarray(grey).std()) < _FLAT,
        digest=hashlib.blake2b(content, digest_size=16).digest(),
        print=shape,
        thumbnail=thumbnail,
        notes=_list_notes(decoded),
    )
    stored = turn_back(grey, decoded.orientation)
    stored_edges = None if decoded.orientation == 1 else compute_picture_edges(stored)
    return _ReadImage(facts, compute_picture_edges(grey), stored_edges)


def _list_notes(decoded: DecodedImage) -> tuple[str, ...]:
    notes = {"damaged-exif": decoded.has_damaged_exif, "pages": decoded.has_more_pages}
    return tuple(code for code, holds in notes.items() if holds)


def _count_values(picture: Image.Image) -> int | None:
    colors = picture.getcolors(MOST_COLORS)
    return None if colors is None else len(colors)


def _read_mask(path: Path) -> _ReadMask:
    decoded = decode_image(path)
    picture = decoded.picture
    hw = picture.height, picture.width
    is_jpeg = decoded.format in ("JPEG", "MPO")
    notes = _list_notes(decoded)
    if not holds_indices(picture):
        if picture.mode == "F":
            reduce_to_8_bits(picture, path)
        counts: Any = picture.convert("RGB").getcolors(MOST_COLORS)
        colors = None if counts is None else {color: count for count, color in counts}
        facts = MaskFacts(hw, picture.mode, is_jpeg, None, colors, notes=notes)
        return _ReadMask(facts, None)
    indices = np.asarray(picture)
    if indices.dtype == bool:
        indices = indices.astype(np.uint8)
    num_ramps, num_jumps = _count_ramps(indices)
    facts = MaskFacts(
        hw=hw,
        mode=picture.mode,
        is_jpeg=is_jpeg,
        values=_count_indices(picture, indices),
        colors=None,
        palette=_read_palette(picture),
        num_ramps=num_ramps,
        num_jumps=num_jumps,
        digest=hashlib.blake2b(indices.tobytes(), digest_size=16).digest(),
        notes=notes,
    )
    return _ReadMask(facts, compute_label_edges(indices))


def _count_indices(picture: Image.Image, indices: npt.NDArray[np.integer]) -> dict[int, int]:
    if picture.mode in ("L", "P"):
        return {value: count for value, count in enumerate(picture.histogram()) if count}
    values, counts = np.unique(indices, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _read_palette(picture: Image.Image) -> dict[int, tuple[int, int, int]]:
    numbers = picture.getpalette("RGB") if picture.mode == "P" else None
    if numbers is None:
        return {}
    counts = picture.histogram()
    colors = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
    return {index: color for index, color in enumerate(colors) if counts[index]}


def _count_ramps(indices: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Count the pixels that lie between both neighbours in value, and the clean jumps.

    Interpolation turns the edge 3 3 9 9 into a ramp, 3 5 7 9. A jump has two equal pixels on each
    side, and values at least 2 apart, so that something could lie between.
    """
    num_ramps = num_jumps = 0
    for plane in (indices, indices.T):
        rows, columns = np.nonzero(plane[:, 1:-2] != plane[:, 2:-1])
        before, left, right, after = (
            plane[rows, columns + place].astype(np.int64) for place in range(4)
        )
        step = right - left
        num_ramps += int(np.count_nonzero(step * (after - right) > 0))
        num_jumps += int(
            np.count_nonzero((before == left) & (right == after) & (np.abs(step) >= 2))
        )
    return num_ramps, num_jumps
