"""Fingerprints of how an image looks, and the pairs that look the same."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

PRINT_BYTES = 32
THUMBNAIL_PX = 16

_MAX_BITS = 40
"""Of 256; prints of unlike images differ in about 128."""

_MIN_LIKENESS = 0.97
_BAND_BYTES = 2
_MAX_IN_BUCKET = 256

_NUM_BITS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def compute_print(grey: Image.Image) -> tuple[bytes, bytes]:
    """Return the perceptual hash (32 bytes) and the thumbnail (16 × 16 grey values) of an image.

    The hash has a bit for each of the 16 × 16 lowest frequencies of the image at 32 × 32 cells:
    whether it is above their median. Brightness and contrast do not touch it.
    """
    small = grey.resize((32, 32), Image.Resampling.BOX)
    frequencies = dctn(np.asarray(small, np.float32), norm="ortho")[:16, :16]
    frequencies[0, 0] = 0
    bits = frequencies > np.median(frequencies)
    thumbnail = grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.packbits(bits).tobytes(), thumbnail.tobytes()


def find_near_pairs(prints: Sequence[bytes], thumbnails: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return the index pairs (i < j) of images that look the same, sorted.

    Two images are compared if one of 16 bands of their prints is equal: of pairs that differ in
    up to 15 of the 256 bits none is missed, of those with 30 about one in ten, with 40 one in
    three. They look the same if the prints differ in at most 40 bits and the thumbnails correlate
    by 0.97 or more. The nearest two of 3456 unlike photographs (VOC) differ in 84 bits.
    """
    if len(prints) < 2:
        return []
    bits = np.frombuffer(b"".join(prints), np.uint8).reshape(len(prints), PRINT_BYTES)
    looks = _normalize(thumbnails)
    found: set[tuple[int, int]] = set()
    for first, second in _candidates(bits):
        distance = _NUM_BITS[bits[first] ^ bits[second]].sum(axis=1)
        near = distance <= _MAX_BITS
        first, second = first[near], second[near]
        alike = (looks[first] * looks[second]).sum(axis=1) >= _MIN_LIKENESS
        found.update(zip(first[alike].tolist(), second[alike].tolist(), strict=True))
    return sorted(found)


def compute_likeness(
    thumbnails: Sequence[bytes], others: Sequence[bytes]
) -> npt.NDArray[np.float32]:
    """Return the correlation of each thumbnail with each of the others."""
    return _normalize(thumbnails) @ _normalize(others).T


def group_pairs(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the groups that the pairs connect, each sorted, the largest first."""
    root: dict[int, int] = {}

    def find(index: int) -> int:
        while root.setdefault(index, index) != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for first, second in pairs:
        root[find(second)] = find(first)
    groups = defaultdict(list)
    for index in sorted(root):
        groups[find(index)].append(index)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def _candidates(bits: npt.NDArray[np.uint8]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield arrays of index pairs (i < j) whose prints agree in a band.

    A bucket that is too full, as flat images make it, is cut at the next band, and at last into
    runs, so that the work stays in proportion to the number of images.
    """
    bands = np.ascontiguousarray(bits).view(np.uint16)
    num_bands = PRINT_BYTES // _BAND_BYTES
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
        elif band == num_bands - 1:  # alike in all bands: once is enough, not once per band
            for start in range(0, len(bucket) - 1, _MAX_IN_BUCKET - 1):  # runs share one member
                yield bucket[start : start + _MAX_IN_BUCKET]


def _normalize(thumbnails: Sequence[bytes]) -> npt.NDArray[np.float32]:
    looks = np.frombuffer(b"".join(thumbnails), np.uint8).astype(np.float32)
    looks = looks.reshape(len(thumbnails), THUMBNAIL_PX**2)
    looks -= looks.mean(axis=1, keepdims=True)
    return looks / np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-6)
