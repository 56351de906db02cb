"""Perceptual hashes of images, pairs of images that look the same, and numbered series."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

_HASH_BYTES = 32
_THUMBNAIL_PX = 16

_MAX_BITS = 40
"""Of 256 bits; hashes of unrelated images differ in about 128."""

_MIN_CORRELATION = 0.97
_MAX_IN_BUCKET = 256

_NUM_OTHERS = 50
_MIN_SERIES_CORRELATION = 0.5
_MIN_ABOVE = 0.75

_NUMBERED = re.compile(r"(.*?)(\d+)")

_NUM_BITS = np.array([byte.bit_count() for byte in range(256)], np.uint8)

Print = tuple[bytes, bytes]
"""Perceptual hash and thumbnail of an image."""


def compute_hash(grey: Image.Image) -> Print:
    """Return the perceptual hash (32 bytes) and the thumbnail (16 × 16 grey values) of an image.

    The hash has one bit per coefficient of the 16 × 16 lowest frequencies (DCT of the image at
    32 × 32 pixels): whether it is above their median. It does not depend on brightness and
    contrast.
    """
    small = grey.resize((32, 32), Image.Resampling.BOX)
    frequencies = dctn(np.asarray(small, np.float32), norm="ortho")[:16, :16]
    frequencies[0, 0] = 0
    bits = frequencies > np.median(frequencies)
    thumbnail = grey.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
    return np.packbits(bits).tobytes(), thumbnail.tobytes()


def find_near_pairs(prints: Mapping[int, Print]) -> list[tuple[int, int]]:
    """Return the pairs of indices (i < j) of images that look the same, sorted.

    Two images are compared if one of 16 bands of their hashes is equal: no pair that differs in up
    to 15 of the 256 bits is missed, about one in ten with 30 bits, one in three with 40. They look
    the same if the hashes differ in at most 40 bits and the thumbnails correlate by at least 0.97.
    The closest two of 3456 unrelated photographs (VOC) differ in 84 bits. `prints` are in the order
    of the indices, and none is of a constant image.
    """
    if len(prints) < 2:
        return []
    indices = np.array(list(prints))
    hashes = b"".join(one for one, _ in prints.values())
    bits = np.frombuffer(hashes, np.uint8).reshape(len(prints), _HASH_BYTES)
    values = normalize_thumbnails([thumbnail for _, thumbnail in prints.values()])
    found: set[tuple[int, int]] = set()
    for first, second in _candidates(bits):
        distance = _NUM_BITS[bits[first] ^ bits[second]].sum(axis=1)
        near = distance <= _MAX_BITS
        first, second = first[near], second[near]
        alike = (values[first] * values[second]).sum(axis=1) >= _MIN_CORRELATION
        pairs = (indices[one[alike]].tolist() for one in (first, second))
        found.update(zip(*pairs, strict=True))
    return sorted(found)


def split_number(stem: str) -> tuple[str, int] | None:
    """Return the series and the number of a file stem that ends in a number, such as `clip3_0012`.

    Images of one series may be frames of one video.
    """
    match = _NUMBERED.fullmatch(stem)
    return (match[1].rstrip("_- "), int(match[2])) if match else None


def are_successive_alike(pairs: Sequence[tuple[int, int]], prints: Mapping[int, Print]) -> bool:
    """Return whether the images of pairs look more alike than images drawn at random.

    Frames of a video do. Names that only number the images of a class or a year do not.
    """
    pairs = [pair for pair in pairs if prints.keys() >= {*pair}]
    if not pairs:
        return False
    first, second = (
        normalize_thumbnails([prints[pair[side]][1] for pair in pairs]) for side in (0, 1)
    )
    drawn = np.random.default_rng(0).choice(list(prints), _NUM_OTHERS)
    others = normalize_thumbnails([prints[index][1] for index in drawn])
    near = (first * second).sum(axis=1)
    usual = np.median(first @ others.T, axis=1)
    return bool(np.median(near) >= _MIN_SERIES_CORRELATION and (near > usual).mean() >= _MIN_ABOVE)


def group_pairs(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the groups that the pairs connect, each sorted, the largest first."""
    if not pairs:
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    indices, ends = np.unique(np.array(pairs), return_inverse=True)
    edges = coo_array((np.ones(len(pairs)), ends.reshape(-1, 2).T), shape=(len(indices),) * 2)
    groups = defaultdict(list)
    for index, group in zip(indices.tolist(), connected_components(edges)[1], strict=True):
        groups[group].append(index)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def _candidates(bits: npt.NDArray[np.uint8]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield arrays of index pairs (i < j) whose hashes agree in a band.

    A bucket with too many images is split by the next bands, and finally into runs, so that the
    work stays proportional to the number of images.
    """
    bands = np.ascontiguousarray(bits).view(np.uint16)
    num_bands = bands.shape[1]
    for band in range(num_bands):
        for bucket in _split(bands, np.arange(len(bands)), band, num_bands):
            first, second = np.triu_indices(len(bucket), 1)
            yield bucket[first], bucket[second]


def _split(
    bands: npt.NDArray[np.uint16], members: np.ndarray, band: int, num_left: int
) -> Iterator[np.ndarray]:
    num_bands = bands.shape[1]
    keys = bands[members, band % num_bands]
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    for bucket in np.split(members[order], starts):
        if len(bucket) <= _MAX_IN_BUCKET:
            if len(bucket) > 1:
                yield bucket
        elif num_left > 1:
            yield from _split(bands, bucket, band + 1, num_left - 1)
        elif band == num_bands - 1:  # equal in all bands: yield once, not once per band
            for start in range(0, len(bucket) - 1, _MAX_IN_BUCKET - 1):  # runs share one member
                yield bucket[start : start + _MAX_IN_BUCKET]


def normalize_thumbnails(thumbnails: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Return thumbnails as rows whose scalar products are their correlations."""
    values = np.frombuffer(b"".join(thumbnails), np.uint8).astype(np.float32)
    values = values.reshape(len(thumbnails), _THUMBNAIL_PX**2)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
