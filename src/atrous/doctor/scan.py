"""One pass over all files of a dataset, in several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import NamedTuple, TypeVar

from atrous.doctor.facts import PairFacts
from atrous.doctor.fit import compute_fit
from atrous.doctor.read_facts import read_image_facts, read_mask_facts
from atrous.errors import DataError
from atrous.images.image_file import UNREADABLE, describe_unreadable
from atrous.images.shard_file import File
from atrous.timing import count_cores

CHUNK = 16
"""Pairs per task of a process; alignment compares neighbours within a chunk."""

_Read = TypeVar("_Read")


class PairPaths(NamedTuple):
    """Name and files of a pair."""

    name: str
    image_path: File
    mask_path: File


def scan_pairs(
    pairs: Sequence[PairPaths],
    *,
    bands: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PairFacts]:
    """Read all pairs, sorted by name so that neighbours are adjacent; return their facts in order.

    With `workers=1`, they are read in this process; None is one per core.

    Raises:
        DataError: A worker process died, usually for lack of memory.
    """
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    workers = min(workers or count_cores(), max(len(chunks), 1))
    facts: list[PairFacts] = []
    try:
        for done in _map_chunks(chunks, bands, workers):
            facts.extend(done)
            if progress is not None:
                progress(len(facts), len(pairs))
    except (BrokenProcessPool, MemoryError) as error:
        raise DataError(
            f"A process that reads images died after {len(facts)} of {len(pairs)} pairs, usually "
            "for lack of memory. Try again with --workers 1; the file that causes it is near "
            f"{chunks[len(facts) // CHUNK][0].image_path}."
        ) from error
    return facts


def _map_chunks(
    chunks: list[Sequence[PairPaths]], bands: int | None, workers: int
) -> Iterator[list[PairFacts]]:
    scan = partial(_scan_chunk, bands)
    if workers == 1:
        yield from map(scan, chunks)
        return
    if any(p.image_path.suffix.lower() in (".jpg", ".jpeg") for chunk in chunks for p in chunk):
        import torchvision.io  # noqa: F401  once here, not in every forked worker
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(scan, chunks)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _scan_chunk(bands: int | None, pairs: Sequence[PairPaths]) -> list[PairFacts]:
    """Read some pairs, and score each mask on its image and on the neighbouring images."""
    read_image = partial(read_image_facts, bands=bands)
    images = [_try(read_image, pair.image_path) for pair in pairs]
    masks = [_try(read_mask_facts, pair.mask_path) for pair in pairs]
    edges = [None, *(mask and mask[1] for mask, _ in masks), None]
    facts = []
    read = zip(pairs, images, masks, strict=True)
    for index, (pair, (image, image_error), (mask, mask_error)) in enumerate(read):
        fit, (previous, own, following) = None, edges[index : index + 3]
        if image is not None and image[1] is not None and own is not None:
            others = {"next": following, "previous": previous}
            known = {name: grid for name, grid in others.items() if grid is not None}
            fit = compute_fit(image[1], own, known, image[2])
        found = image and image[0], mask and mask[0]
        facts.append(PairFacts(*pair, *found, image_error, mask_error, fit))
    return facts


def _try(read: Callable[[File], _Read], path: File) -> tuple[_Read | None, str | None]:
    """Return what was read, or the reason that it cannot be read."""
    try:
        return read(path), None
    except UNREADABLE as error:
        return None, str(describe_unreadable(str(path), error))
    except DataError as error:
        return None, str(error)
