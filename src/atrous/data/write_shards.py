"""Writing datasets as tar shards."""

import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from atrous.data.classes_file import format_bands, format_classes
from atrous.data.dataset import SegmentationDataset, open_dataset
from atrous.data.layouts import find_all_files, find_layout, read_given_bands
from atrous.data.shards import UNFINISHED, Index
from atrous.errors import DataError
from atrous.files import is_utf8, replace_atomically, write_atomically
from atrous.images.shard_file import INDEX, Position, format_shard

_BLOCK = 512
_SHARDS = "*-[0-9][0-9][0-9][0-9][0-9][0-9].tar"


def write_shards(
    root: Path | str,
    out: Path,
    *,
    splits: Sequence[str] | None = None,
    format: str = "auto",
    ignore_index: int | None = None,
    shard_bytes: int = 256_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Position]]:
    """Write a dataset as tar shards with an index; image and mask files keep their bytes.

    The index is written last. After an interruption, the same call starts again.

    Args:
        root: Dataset; for this, `format` and `ignore_index`, see `open_dataset`.
        splits: Splits to write; by default, all that have masks.
        shard_bytes: Size from which a new shard begins.

    Raises:
        DataError: The dataset cannot be read, or `out` is in use or cannot be written.
    """
    layout, folder = find_layout(root, format)
    if splits is None:
        splits = [split for split, files in find_all_files(layout, folder).items() if files.masks]
    datasets = [
        open_dataset(root, split, format=format, ignore_index=ignore_index) for split in splits
    ]
    if not datasets:
        raise DataError(f"No split of {root} has masks, so there is nothing to write.")
    classes = format_classes(datasets[0].classes, datasets[0].ignore_index)
    classes += format_bands(*read_given_bands(root, folder))
    done, total, positions = 0, sum(map(len, datasets)), dict[str, list[Position]]()
    try:
        _claim(out)
        for dataset in datasets:
            positions[dataset.split] = []
            for position in _write_split(dataset, out, shard_bytes):
                positions[dataset.split].append(position)
                done += 1
                if progress is not None:
                    progress(done, total)
        text = Index(classes=classes, splits=positions).model_dump_json() + "\n"
        write_atomically(out / INDEX, lambda file: file.write(text.encode()))
        (out / UNFINISHED).unlink()
    except OSError as error:
        raise DataError(
            f"The shards cannot be written to {out}: {error.strerror or error}. Free space or name "
            "another folder, and start the same command again."
        ) from error
    return positions


def _claim(out: Path) -> None:
    """Create the folder, or clear that of an interrupted run."""
    is_used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if is_used and not (out / UNFINISHED).exists():
        content = "shards" if (out / INDEX).exists() else "other files"
        found = f"already holds {content}" if out.is_dir() else "is not a folder"
        raise DataError(f"{out} {found}. Name a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    (out / UNFINISHED).touch()
    for path in (out / INDEX, *out.glob(_SHARDS), *out.glob(".*.tmp")):
        path.unlink(missing_ok=True)


def _write_split(dataset: SegmentationDataset, out: Path, shard_bytes: int) -> Iterator[Position]:
    index = shard = 0
    while index < len(dataset):
        path = out / format_shard(dataset.split, shard)
        with replace_atomically(path) as temporary, open(temporary, "wb") as file:
            while index < len(dataset) and file.tell() < shard_bytes:
                yield _write_sample(dataset, index, shard, file)
                index += 1
            file.write(bytes(2 * _BLOCK))  # the end of an archive
        shard += 1


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
    key = name.replace(".", "%2E")  # WebDataset takes what precedes the first dot as the key
    file.write(_format_header(key + suffixes[0], len(image)))
    start, sizes = file.tell(), (len(image), len(mask))
    content = image + bytes(-len(image) % _BLOCK)
    content += _format_header(f"{key}.mask{suffixes[1]}", len(mask)) + mask
    file.write(content + bytes(-len(mask) % _BLOCK))
    return Position(name, suffixes, shard, start, len(content), zlib.crc32(content), sizes)


def _format_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)
