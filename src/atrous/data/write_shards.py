"""Writing datasets as tar shards."""

import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from atrous.data.classes_file import format_bands, format_classes
from atrous.data.dataset import (
    SegmentationDataset,
    find_layout,
    find_split_files,
    open_dataset,
    read_given_bands,
)
from atrous.data.shards import INDEX, UNFINISHED, Index, Position, format_shard
from atrous.errors import DataError
from atrous.files import is_utf8, replace_atomically, write_atomically

_BLOCK = 512
_WRITTEN = "*-[0-9][0-9][0-9][0-9][0-9][0-9].tar"


class SplitSize(NamedTuple):
    """Numbers of samples, shards and bytes of a split."""

    num_samples: int
    num_shards: int
    num_bytes: int


def write_shards(
    root: Path | str,
    out: Path,
    *,
    splits: Sequence[str] | None = None,
    format: str = "auto",
    ignore_index: int | None = None,
    shard_bytes: int = 256_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, SplitSize]:
    """Write a dataset as tar shards with an index; image and mask files keep their bytes.

    The index is written last. After an interruption, the same call starts again.

    Args:
        root: Dataset, as for `open_dataset`.
        out: New or empty folder.
        splits: Splits to write; by default, all that have masks.
        format: Layout of the dataset.
        ignore_index: Mask value of ignored pixels; by default, the dataset's own.
        shard_bytes: Size from which a new shard begins.
        progress: Called with the number of samples written and the total.

    Raises:
        DataError: The dataset cannot be read, or `out` is in use or cannot be written.
    """
    if splits is None:
        found = find_split_files(root, format=format)
        splits = [split for split, files in found.items() if files.masks]
    datasets = [
        open_dataset(root, split, format=format, ignore_index=ignore_index) for split in splits
    ]
    if not datasets:
        raise DataError(f"No split of {root} has masks, so there is nothing to write.")
    bands, ranges = read_given_bands(root, find_layout(root, format)[1])
    classes = format_classes(datasets[0].classes, datasets[0].ignore_index)
    total, positions = sum(map(len, datasets)), dict[str, list[Position]]()

    def count(done: int) -> None:
        if progress is not None:
            progress(sum(map(len, positions.values())) + done, total)

    try:
        _claim(out)
        for dataset in datasets:
            positions[dataset.split] = _write_split(dataset, out, shard_bytes, count)
        index = Index(classes=classes + format_bands(bands, ranges), splits=positions)
        text = index.model_dump_json() + "\n"
        write_atomically(out / INDEX, lambda file: file.write(text.encode()))
        (out / UNFINISHED).unlink()
    except OSError as error:
        raise DataError(
            f"The shards cannot be written to {out}: {error.strerror or error}. Free space or name "
            "another folder, and start the same command again."
        ) from error
    return {split: _measure(out, split, written) for split, written in positions.items()}


def _claim(out: Path) -> None:
    """Create the folder, or clear that of an interrupted run."""
    is_used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if is_used and not (out / UNFINISHED).exists():
        content = "shards" if (out / INDEX).exists() else "other files"
        raise DataError(f"{out} already holds {content}. Name a new folder, or empty this one.")
    out.mkdir(parents=True, exist_ok=True)
    (out / UNFINISHED).touch()
    (out / INDEX).unlink(missing_ok=True)
    for path in (*out.glob(_WRITTEN), *out.glob(".*.tmp")):
        path.unlink()


def _write_split(
    dataset: SegmentationDataset, out: Path, shard_bytes: int, count: Callable[[int], None]
) -> list[Position]:
    positions: list[Position] = []
    shard = 0
    while len(positions) < len(dataset):
        path = out / format_shard(dataset.split, shard)
        with replace_atomically(path) as temporary, open(temporary, "wb") as file:
            while len(positions) < len(dataset) and file.tell() < shard_bytes:
                positions.append(_write_sample(dataset, len(positions), shard, file))
                count(len(positions))
            file.write(bytes(2 * _BLOCK))  # the end of an archive
        shard += 1
    return positions


def _write_sample(dataset: SegmentationDataset, index: int, shard: int, file: BinaryIO) -> Position:
    name = dataset.names[index]
    paths = dataset.image_paths[index], dataset.mask_paths[index]
    if not is_utf8(name):
        raise DataError(f"The file name {str(paths[0])!a} is not valid UTF-8. Rename the file.")
    try:
        image, mask = (path.read_bytes() for path in paths)
    except OSError as error:
        raise DataError(
            f"Cannot read {error.filename}: {error.strerror}. Check its permissions and disk."
        ) from error
    suffixes = paths[0].suffix.lower(), paths[1].suffix.lower()
    # A reader of WebDataset takes everything before the first dot as the name of the sample.
    key = name.replace(".", "%2E")
    file.write(_format_header(key + suffixes[0], len(image)))
    start = file.tell()
    between = bytes(-len(image) % _BLOCK) + _format_header(f"{key}.mask{suffixes[1]}", len(mask))
    content = image + between + mask
    file.write(content + bytes(-len(mask) % _BLOCK))
    sizes = len(image), len(mask)
    return Position(name, suffixes, shard, start, len(content), zlib.crc32(content), sizes)


def _format_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def _measure(out: Path, split: str, positions: list[Position]) -> SplitSize:
    num_shards = positions[-1].shard + 1
    paths = [out / format_shard(split, number) for number in range(num_shards)]
    return SplitSize(len(positions), num_shards, sum(path.stat().st_size for path in paths))
