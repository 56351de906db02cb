"""Cache of decoded training samples: one memory-mapped safetensors file each."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from atrous.errors import ConfigError
from atrous.files import write_atomically
from atrous.images.shard_file import File

Resize = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class SampleCache:
    """8-bit images and masks, decoded and resized to what training needs of them.

    The name of a file is a hash of everything that its content depends on, also of the sizes and
    times of the image and mask files, so that a changed image is read again. Files are written
    atomically; damaged ones count as missing.

    Attributes:
        folder: Folder of the files, created if missing.
        resize: Resizes an image and its mask, always in the same way.
        facts: What `resize` and the meaning of mask values depend on.
        num_bytes: Estimated size of all files.
    """

    folder: Path
    resize: Resize
    facts: str
    num_bytes: int

    def load(self, image_path: File, mask_path: File) -> tuple[Tensor, Tensor] | None:
        """Return the image (3, H, W) and the mask (H, W), both uint8; None if they are missing."""
        path = self._find_path(image_path, mask_path)
        with suppress(OSError, SafetensorError), safe_open(path, "pt") as file:
            return file.get_tensor("image").permute(2, 0, 1), file.get_tensor("mask")
        return None

    def save(
        self, image_path: File, mask_path: File, image: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Resize and write a sample; return it as `load` does.

        Raises:
            ConfigError: The folder cannot be written, or the disk is full.
        """
        image, mask = self.resize(image, mask)
        rows = image.permute(1, 2, 0).contiguous()
        content = save({"image": rows, "mask": mask.contiguous()})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self._find_path(image_path, mask_path)
            write_atomically(path, lambda file: file.write(content))
        except OSError as error:
            raise ConfigError(
                f"The cache of decoded images cannot be written to {self.folder}: {error}. Free "
                "some space, name another folder with --set data.cache=DIR, or do without with "
                "--set data.cache=off."
            ) from error
        return rows.permute(2, 0, 1), mask

    def has(self, image_path: File, mask_path: File) -> bool:
        """Return whether there is a file of a sample."""
        return self._find_path(image_path, mask_path).exists()

    def _find_path(self, image_path: File, mask_path: File) -> Path:
        facts = self.facts, _identify(image_path), _identify(mask_path)
        digest = hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()
        return self.folder / f"{digest[:40]}.safetensors"


def _identify(file: File) -> str:
    if not isinstance(file, Path):
        return f"{file.root} {file.position}"  # with a checksum
    try:
        facts = file.stat()
    except OSError:  # reported where it is read
        return f"{file} is missing"
    return f"{os.path.abspath(file)} {facts.st_size} {facts.st_mtime_ns}"
