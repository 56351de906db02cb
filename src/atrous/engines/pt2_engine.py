"""Runs programs of `torch.export`."""

from pathlib import Path

import torch

from atrous.engines.exported_engine import (
    METADATA_KEY,
    Array,
    ExportedEngine,
    build_unreadable_error,
    parse_export_card,
)
from atrous.engines.tta import TTA


class Pt2Engine(ExportedEngine):
    """Runs a .pt2 program in PyTorch, without the model code of this package.

    Raises:
        WeightsError: The file cannot be used.
    """

    def __init__(self, path: Path, *, tta: TTA = TTA()) -> None:
        extra = {METADATA_KEY: ""}
        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # zip, JSON, key and runtime errors alike
            raise build_unreadable_error(path, error) from error
        super().__init__(path, parse_export_card(path, extra[METADATA_KEY]), tta=tta)
        self._module = program.module()

    @torch.inference_mode()
    def run(self, array: Array) -> Array:
        """Run the file on an input batch and return its output batch."""
        return self._module(torch.from_numpy(array)).numpy()
