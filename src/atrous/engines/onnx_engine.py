"""Runs ONNX files with ONNX Runtime."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from atrous.engines.exported import (
    INPUT_NAME,
    METADATA_KEY,
    Array,
    ExportedEngine,
    parse_export_card,
    unreadable_export,
)
from atrous.engines.tta import TTA
from atrous.extras import import_extra

FLOAT = 1
"""`onnx.TensorProto.FLOAT`."""


class OnnxEngine(ExportedEngine):
    """An ONNX file on ONNX Runtime, with as many threads as torch.

    Args:
        path: The file, written by `atrous export`.
        tta: Test-time augmentation and sliding windows.

    Raises:
        ConfigError: onnxruntime is not installed.
        WeightsError: The file cannot be used.
    """

    def __init__(self, path: Path, *, tta: TTA = TTA()) -> None:
        self._session = _open_session(path, path)
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        card = parse_export_card(path, text)
        precision = "int8" if card.target.endswith("int8") else "32"
        super().__init__(path, card, precision=precision, tta=tta)

    def run(self, array: Array) -> Array:
        """Run the file as it is: logits or masks, with the batch."""
        return self._session.run(None, {INPUT_NAME: array})[0]

    def run_small(self, array: Array) -> Array:
        """Run the file up to its last resizing, where there is one: small logits."""
        return self._small_session.run(None, {INPUT_NAME: array})[0]

    @cached_property
    def _small_session(self) -> Any:
        if self.export.mask_output:
            return self._session
        model = import_extra("onnx", "export").load(str(self.path))
        resizes = [node for node in model.graph.node if node.op_type == "Resize"]
        made_last = model.graph.node[-1].output
        if not resizes or list(resizes[-1].output) != list(made_last):
            return self._session
        return _open_session(self.path, _cut(model, resizes[-1].input[0]))


def _cut(model: Any, output: str) -> bytes:
    """Return the network that ends at an intermediate result."""
    onnx = import_extra("onnx", "export")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, FLOAT, None))
    return model.SerializeToString()


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
    except Exception as error:  # its errors share no class
        raise unreadable_export(path, error) from error
