"""Runs programs of `torch.export`."""

from pathlib import Path

import torch

from atrous.engines.exported import (
    METADATA_KEY,
    Array,
    ExportedEngine,
    parse_export_card,
    unreadable_export,
)
from atrous.engines.tta import TTA


class Pt2Engine(ExportedEngine):
    """A .pt2 program on PyTorch alone, without this package's model code.

    Args:
        path: The file, written by `atrous export`.
        tta: Test-time augmentation and sliding windows.

    Raises:
        WeightsError: The file cannot be used.
    """

    def __init__(self, path: Path, *, tta: TTA = TTA()) -> None:
        extra = {METADATA_KEY: ""}
        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # zip, JSON, key and runtime errors alike
            raise unreadable_export(path, error) from error
        super().__init__(
            path, parse_export_card(path, extra[METADATA_KEY]), precision="32", tta=tta
        )
        self._module = program.module()

    @torch.inference_mode()
    def run(self, array: Array) -> Array:
        """Run the file as it is: logits or masks, with the batch."""
        return self._module(torch.from_numpy(array)).numpy()
