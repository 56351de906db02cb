"""Runs programs of `torch.export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atrous.inference.exported import (
    METADATA_KEY,
    Array,
    ExportedEngine,
    parse_export_card,
    to_float32,
    unreadable_export,
)
from atrous.inference.views import Views


class Pt2Engine(ExportedEngine):
    """A .pt2 program on PyTorch alone, without this package's model code.

    Args:
        path: The file, written by `atrous export`.
        views: Scales, mirror images and windows to look through.

    Raises:
        WeightsError: The file cannot be used.
    """

    def __init__(self, path: Path, *, views: Views = Views()) -> None:  # noqa: B008 (immutable)
        extra = {METADATA_KEY: ""}
        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # zip, JSON, key and runtime errors alike
            raise unreadable_export(path, error) from error
        super().__init__(
            path, parse_export_card(path, extra[METADATA_KEY]), precision="32", views=views
        )
        self._module = program.module()

    @torch.inference_mode()
    def run(self, array: Array) -> Array:
        """Run the file as it is: logits or masks, with the batch."""
        return self._module(torch.from_numpy(array)).numpy()

    @torch.inference_mode()
    def run_layers(self, array: Array, names: Sequence[str]) -> dict[str, Array]:
        """Return the named intermediate results."""
        recorder = LayerRecorder(self._module, names)
        recorder.run(torch.from_numpy(array))
        return recorder.results


class LayerRecorder(torch.fx.Interpreter):
    """Runs a traced network and keeps the named intermediate results, as float32 arrays."""

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__(module)
        self.names = set(names)
        self.results: dict[str, Array] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run one node."""
        result = super().run_node(n)
        if n.name in self.names and isinstance(result, Tensor):
            self.results[n.name] = to_float32(result.numpy(force=True).copy())
        return result
