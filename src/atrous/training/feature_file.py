"""Features of pictures in one file: a record per picture, all of one length, whole or not there."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from atrous.files import sync_folder, write_atomically
from atrous.parsing import parse_json

_NOTE_EVERY_S = 10.0


@dataclass(frozen=True)
class FeatureLayout:
    """What the record of one picture holds: its maps, those of its mirror image, and the mask.

    Attributes:
        maps_hwc: Height, width and channels of each map, in the order of the record. They are kept
            in bfloat16, channels last.
        dtypes: What the network computes each map in.
        size_hw: Height and width of the mask.
        num_copies: 2 with the mirror image, else 1.
    """

    maps_hwc: tuple[tuple[int, int, int], ...]
    dtypes: tuple[torch.dtype, ...]
    size_hw: tuple[int, int]
    num_copies: int

    @property
    def map_bytes(self) -> tuple[int, ...]:
        """Length of each map."""
        return tuple(2 * height * width * channels for height, width, channels in self.maps_hwc)

    @property
    def record_bytes(self) -> int:
        """Length of a record, an even number."""
        num_bytes = self.num_copies * sum(self.map_bytes) + self.size_hw[0] * self.size_hw[1]
        return num_bytes + num_bytes % 2

    def pack(self, copies: Sequence[Sequence[Tensor]], mask: Tensor) -> Tensor:
        """Return the records of a batch of pictures.

        Shapes:
            copies: per copy and map, float (batch, channels, height, width)
            mask: uint8 (batch, H, W)
            returns: uint8 (batch, record_bytes)
        """
        maps = [
            feature.permute(0, 2, 3, 1).to("cpu", torch.bfloat16).flatten(1).view(torch.uint8)
            for features in copies
            for feature in features
        ]
        record = torch.cat([*maps, mask.flatten(1)], dim=1)
        return torch.nn.functional.pad(record, (0, self.record_bytes - record.shape[1]))

    def unpack(
        self, rows: Sequence[Tensor], mirrored: Sequence[bool]
    ) -> tuple[list[Tensor], Tensor]:
        """Return the maps and masks of some records, of the mirror image where it is asked for.

        Shapes:
            rows: one uint8 (record_bytes) per picture
            returns: per map, float (batch, channels, height, width); uint8 (batch, H, W)
        """
        features = []
        begin = 0
        for num_bytes, shape, dtype in zip(self.map_bytes, self.maps_hwc, self.dtypes, strict=True):
            begins = [begin + mirror * sum(self.map_bytes) for mirror in mirrored]
            parts = [row[at : at + num_bytes] for row, at in zip(rows, begins, strict=True)]
            stacked = torch.stack(parts).view(torch.bfloat16).unflatten(1, shape)
            features.append(stacked.permute(0, 3, 1, 2).to(dtype))
            begin += num_bytes
        begin = self.num_copies * sum(self.map_bytes)
        masks = [
            row[begin : begin + self.size_hw[0] * self.size_hw[1]].view(self.size_hw)
            for row in rows
        ]
        turned = [
            mask.flip(-1) if mirror else mask for mask, mirror in zip(masks, mirrored, strict=True)
        ]
        return features, torch.stack(turned)


class FeatureFile:
    """The records of all pictures of a data set, memory-mapped once the file is whole.

    Until then it is a `.part` beside it, with a note of how many records are safely on disk.

    Args:
        path: The file.
        layout: Of its records.
        num_pictures: How many records it has.
    """

    def __init__(self, path: Path, layout: FeatureLayout, num_pictures: int) -> None:
        self.path, self.layout, self.num_pictures = path, layout, num_pictures
        self._part = path.with_suffix(".part")
        self._note = path.with_suffix(".part.json")
        self._rows: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """Length of the whole file."""
        return self.num_pictures * self.layout.record_bytes

    @property
    def is_whole(self) -> bool:
        """Whether all records are there."""
        return self.path.is_file() and self.path.stat().st_size == self.num_bytes

    def compute_missing_bytes(self) -> int:
        """Return what still has to be written."""
        return 0 if self.is_whole else self.num_bytes - self._count() * self.layout.record_bytes

    def write(
        self,
        compute_records: Callable[[int], Generator[Tensor]],
        *,
        should_stop: Callable[[], bool],
        on_progress: Callable[[int], None],
    ) -> None:
        """Write what is missing; another process that writes the same file is waited for.

        Args:
            compute_records: Called with the number of a picture; gives the records from there on,
                uint8 (any number, record_bytes) at a time.
            should_stop: Asked after each of these; what is written is kept.
            on_progress: Called with the number of records that are there.

        Raises:
            OSError: The disk is full or refuses.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _hold(self.path.with_suffix(".lock"), should_stop) as held:
            if not held or self.is_whole:
                return
            count = self._count()
            with open(self._part, "ab") as file:
                file.truncate(count * self.layout.record_bytes)
                noted_s = time.monotonic()
                with closing(compute_records(count)) as parts:
                    for records in parts:
                        file.write(records.numpy().data)
                        count += len(records)
                        on_progress(count)
                        stopping = should_stop() and count < self.num_pictures
                        if stopping or time.monotonic() - noted_s > _NOTE_EVERY_S:
                            self._write_note(file, count)
                            noted_s = time.monotonic()
                        if stopping:
                            return
                self._write_note(file, count)
            os.replace(self._part, self.path)
            self._note.unlink()
            sync_folder(self.path.parent)

    def read(
        self, pictures: Sequence[int], mirrored: Sequence[bool]
    ) -> tuple[list[Tensor], Tensor]:
        """Return maps and masks of some pictures; see `FeatureLayout.unpack`."""
        if self._rows is None:
            assert self.is_whole, "a file that is not whole is never read"
            flat = torch.from_file(
                str(self.path), shared=False, size=self.num_bytes, dtype=torch.uint8
            )
            self._rows = flat.view(self.num_pictures, -1)
        rows = self._rows
        return self.layout.unpack([rows[index] for index in pictures], mirrored)

    def _count(self) -> int:
        """Return how many records of the part are safely on disk."""
        try:
            noted = int(parse_json(self._note.read_text(encoding="utf-8"))["num_records"])
            return min(noted, self._part.stat().st_size // self.layout.record_bytes)
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _write_note(self, file: BinaryIO, count: int) -> None:
        file.flush()
        os.fsync(file.fileno())
        text = json.dumps({"num_records": count})
        write_atomically(self._note, lambda note: note.write(text.encode()))


def compute_free_bytes(folder: Path) -> int:
    """Return the room on the disk of a folder that may not be there yet."""
    there = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(there).free


@contextmanager
def _hold(path: Path, should_stop: Callable[[], bool]) -> Iterator[bool]:
    """Wait for a lock; gives False if asked to stop before it is free."""
    with open(path, "w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if should_stop():
                    yield False
                    return
                time.sleep(0.5)
            else:
                yield True
                return
