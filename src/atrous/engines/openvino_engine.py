"""Runs OpenVINO files."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atrous.devices import Precision
from atrous.engines.exported_engine import (
    METADATA_KEY,
    Array,
    ExportedEngine,
    build_unreadable_error,
    parse_export_card,
)
from atrous.engines.tta import TTA
from atrous.extras import import_extra

_HINTS = {"32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine(ExportedEngine):
    """Runs an OpenVINO file (.xml with its .bin) on the CPU, with as many threads as torch.

    Raises:
        ConfigError: openvino is not installed.
        WeightsError: The file cannot be used.
    """

    def __init__(self, path: Path, *, tta: TTA = TTA(), precision: Precision = "32") -> None:
        self._openvino = import_extra("openvino", "export")
        self._core = self._openvino.Core()
        self._model = _read(self._core, path)
        has_card = self._model.has_rt_info([METADATA_KEY, "card"])
        text = self._model.get_rt_info([METADATA_KEY, "card"]).value if has_card else None
        super().__init__(path, parse_export_card(path, text), precision=precision, tta=tta)

    def run(self, array: Array) -> Array:
        """Run the file on an input batch and return its output batch."""
        return self._infer(self._request, array)

    def run_small(self, array: Array) -> Array:
        """Run the file up to its last upsampling, if it can be cut there."""
        return self._infer(self._small_request, array)

    @cached_property
    def _request(self) -> Any:
        return self._compile(self._model).create_infer_request()

    @cached_property
    def _small_request(self) -> Any:
        source = self._model.outputs[0].node.input_value(0)
        if self.export.mask_output or source.node.get_type_name() != "Interpolate":
            return self._request
        model = _read(self._core, self.path)
        resize = model.outputs[0].node.input_value(0).node
        small = self._openvino.Model([resize.input_value(0)], model.get_parameters())
        return self._compile(small).create_infer_request()

    def _compile(self, model: Any) -> Any:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        return self._core.compile_model(model, "CPU", options)

    @staticmethod
    def _infer(request: Any, array: Array) -> Array:
        # Copied because the request reuses its output memory for the next image.
        return np.array(request.infer([array], share_inputs=True)[0])


def _read(core: Any, path: Path) -> Any:
    if not path.is_file():
        raise build_unreadable_error(path, FileNotFoundError("the file does not exist"))
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        raise build_unreadable_error(path, error) from error
