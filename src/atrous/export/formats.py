"""Files of other runtimes: translation of programs, and saving with the card as metadata."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from atrous.engines.exported_engine import INPUT_NAME, METADATA_KEY, ExportCard
from atrous.extras import import_extra
from atrous.files import write_atomically

OPSET = 20
"""Version of the ONNX operators, which ONNX Runtime supports since 1.17."""


def build_onnx(program: ExportedProgram, card: ExportCard) -> Any:
    """Translate a program to an `onnx.ModelProto` with the card in its metadata."""
    output_name = "mask" if card.mask_output else "logits"
    with silence():
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=[output_name],
            opset_version=OPSET,
            verbose=False,
        )
    assert translated is not None
    model = translated.model_proto
    # The metadata of nodes holds stack traces with the paths of this machine.
    graph = model.graph
    for message in (*graph.node, *graph.input, *graph.output, *graph.value_info):
        del message.metadata_props[:]
    del graph.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    add_onnx_card(model, card)
    return model


def add_onnx_card(model: Any, card: ExportCard) -> None:
    """Replace the metadata of an `onnx.ModelProto` by the card."""
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=card.to_json())


def save_onnx(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto` as one file."""
    write_atomically(path, lambda file: file.write(model.SerializeToString()))


def build_openvino(onnx_model: Any) -> Any:
    """Translate an `onnx.ModelProto` to an `openvino.Model` with the same output names."""
    import_extra("openvino.frontend.onnx", "export")
    openvino = import_extra("openvino", "export")
    return openvino.Core().read_model(onnx_model.SerializeToString())


def save_openvino(model: Any, card: ExportCard, path: Path) -> None:
    """Write an `openvino.Model` with its card: an .xml file and a .bin file."""
    openvino = import_extra("openvino", "export")
    model.set_rt_info(card.to_json(), [METADATA_KEY, "card"])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def save_program(program: ExportedProgram, card: ExportCard, path: Path) -> None:
    """Write a program of torch.export with its card."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # holds the paths of this machine
    with silence():
        torch.export.save(program, path, extra_files={METADATA_KEY: card.to_json()})


@contextmanager
def silence() -> Iterator[None]:
    """Suppress the warnings, logs and standard output of exporters."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
