"""Runs ONNX files with ONNX Runtime."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from atrous.engines.exported_engine import (
    INPUT_NAME,
    METADATA_KEY,
    Array,
    ExportedEngine,
    build_unreadable_error,
    parse_export_card,
)
from atrous.engines.tta import TTA
from atrous.extras import import_extra


class OnnxEngine(ExportedEngine):
    """Runs an ONNX file in ONNX Runtime, with as many threads as torch.

    Raises:
        ConfigError: onnxruntime is not installed.
        WeightsError: The file cannot be used.
    """

    def __init__(self, path: Path, *, tta: TTA = TTA()) -> None:
        self._session = _open_session(path, path)
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        super().__init__(path, parse_export_card(path, text), tta=tta)

    def run(self, array: Array) -> Array:
        """Run the file on an input batch and return its output batch."""
        return self._session.run(None, {INPUT_NAME: array})[0]

    def run_small(self, array: Array) -> Array:
        """Run the file up to its last upsampling, if it can be cut there."""
        return self._small_session.run(None, {INPUT_NAME: array})[0]

    @cached_property
    def _small_session(self) -> Any:
        if self.export.mask_output:
            return self._session
        onnx = import_extra("onnx", "export")
        model = onnx.load(str(self.path))
        resizes = [node for node in model.graph.node if node.op_type == "Resize"]
        if not resizes or list(resizes[-1].output) != list(model.graph.node[-1].output):
            return self._session
        small = onnx.helper.make_tensor_value_info(
            resizes[-1].input[0], onnx.TensorProto.FLOAT, None
        )
        del model.graph.output[:]
        model.graph.output.append(small)
        return _open_session(self.path, model.SerializeToString())


def _open_session(path: Path, source: Path | bytes) -> Any:
    runtime = import_extra("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # the runtime's errors have no common class
        raise build_unreadable_error(path, error) from error
