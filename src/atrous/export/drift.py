"""Where an exported network leaves its original: layer by layer, on one picture."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from atrous.inference.exported import Array, ExportedEngine
from atrous.inference.pt2_engine import LayerRecorder


@dataclass(frozen=True)
class LayerDrift:
    """How far one result inside the network is off.

    Attributes:
        layer: Module that made it, such as `backbone.layer1.0.conv1`.
        result: Name of the result in the exported file.
        error: Root mean square of the difference, as a share of that of the original.
        rise: How far that is above the largest error of all results before it.
    """

    layer: str
    result: str
    error: float
    rise: float


def compute_drift(
    program: ExportedProgram, engine: ExportedEngine, image: Tensor
) -> list[LayerDrift]:
    """Compare all results inside the network that both sides still have, in order.

    What a runtime has fused away cannot be compared, so an error is seen at the next result left.

    Args:
        program: The original, in the operations that the export was made of.
        engine: The exported file.
        image: uint8 (3, H, W), of a size that the file takes.
    """
    module = program.module()
    layers = _name_layers(module)
    array = engine.prepare(image)
    ours = engine.run_layers(array, list(layers))
    recorder = LayerRecorder(module, list(ours))
    with torch.inference_mode():
        recorder.run(torch.from_numpy(array))
    drifts: list[LayerDrift] = []
    worst_before = 0.0
    for name, layer in layers.items():
        if name in ours and name in recorder.results:
            error = _compute_error(recorder.results[name], ours[name])
            drifts.append(LayerDrift(layer, name, error, error - worst_before))
            worst_before = max(worst_before, error)
    return drifts


def find_most_drifting(drifts: list[LayerDrift]) -> LayerDrift | None:
    """Return the layer where the error rises most over all before it; None of none."""
    return max(drifts, key=lambda drift: drift.rise, default=None)


def _name_layers(module: torch.fx.GraphModule) -> dict[str, str]:
    """Return the module that made each map of features, in order of computation."""
    layers = {}
    for node in module.graph.nodes:
        value = node.meta.get("val")
        is_map = isinstance(value, Tensor) and value.dim() == 4 and value.is_floating_point()
        stack = list(node.meta.get("nn_module_stack", {}).values())
        if node.op == "call_function" and is_map and stack:
            layers[node.name] = stack[-1][0].rpartition("network.")[2] or "normalisation"
    return layers


def _compute_error(original: Array, exported: Array) -> float:
    if original.shape != exported.shape:
        return float("inf")
    size = float(np.sqrt(np.mean(np.square(original, dtype=np.float64))))
    difference = np.subtract(exported, original, dtype=np.float64)
    error = float(np.sqrt(np.mean(np.square(difference)))) / max(size, 1e-12)
    return error if np.isfinite(error) else float("inf")
