"""The parts of a model and their parameters, FLOPs and activations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from atrous.models import Segmenter
from atrous.profile.activations import LOSS
from atrous.profile.trace import Call, list_tensors


@dataclass(frozen=True)
class ModelPart:
    """A part of a model, such as `backbone.layer1` or `head.aspp`, in execution order.

    Attributes:
        map_hw, channels: Size of the output feature map, in cells; None for the loss.
        gflops: FLOPs for one image in 10⁹; a multiply-add is two.
        saved_mb: Activations saved for the backward pass, in 10⁶ bytes.
        receptive_field_px: Side of the square that contains 95 % of the gradient energy of the
            central cell, in pixels; None if not measured.
    """

    name: str
    map_hw: tuple[int, int] | None
    channels: int | None
    num_parameters: int
    gflops: float
    saved_mb: float
    receptive_field_px: int | None


def assign_parts(meta_model: Segmenter, calls: Sequence[Call]) -> dict[str, str]:
    """Assign each module to a part.

    A part of the backbone ends with a feature map, and is named after its modules with weights:
    `backbone.layer1`. A part of the head is one module, or several unnamed modules in a row:
    `head.aspp`, `head.ASPP`, `head.conv`, `head.classifier`. Names are returned by module path, in
    execution order.
    """
    parts: dict[str, str] = {}
    maps = next(list_tensors(call.output) for call in calls if call.path == "backbone")
    inside = [
        (index, set(map(id, list_tensors(call.output))))
        for index, call in enumerate(calls)
        if call.path.startswith("backbone.")
    ]
    # A part ends with the last call inside the backbone that returned its feature map.
    ends = {
        max((index for index, outputs in inside if id(features) in outputs), default=-1)
        for features in maps
    }
    stage: list[str] = []
    for index, call in enumerate(calls):
        top = call.path.split(".")[0]
        if top == "backbone":
            stage.append(call.path)
            if index in ends or call.path == top:
                # A module used in several stages, such as a shared pooling, counts for the last.
                parts = {path: part for path, part in parts.items() if path not in stage}
                parts |= dict.fromkeys(stage, _name_stage(meta_model, stage))
                stage = []
        elif call.path not in parts:
            parts[call.path] = _name_head_part(meta_model, call.path) if top == "head" else top
    return parts


def list_measured_paths(parts: Mapping[str, str]) -> dict[str, str]:
    """Return the last module path of each part of the backbone and of the last part of the head."""
    ends = {part: path for path, part in parts.items() if path.startswith("backbone.")}
    head = [(part, path) for path, part in parts.items() if path.startswith("head.")]
    return {**ends, **dict(head[-1:])}


def describe_parts(
    meta_model: Segmenter,
    calls: Sequence[Call],
    saved_bytes: Mapping[str, int],
    receptive_fields_px: Mapping[str, int | None],
) -> list[ModelPart]:
    """Sum up modules by part: `saved_bytes` are by module path, `receptive_fields_px` by part."""
    part_of = assign_parts(meta_model, calls)
    parts = []
    for name in dict.fromkeys(part_of.values()):
        own_paths = [path for path, part in part_of.items() if part == name]
        own_calls = [call for call in calls if part_of[call.path] == name]
        num_parameters = sum(
            parameter.numel()
            for path in own_paths
            for parameter in meta_model.get_submodule(path).parameters(recurse=False)
        )
        flops = sum(call.flops for call in own_calls)
        saved = sum(saved_bytes.get(path, 0) for path in own_paths)
        if num_parameters or flops or saved:
            features = list_tensors(own_calls[-1].output)[-1]
            parts.append(
                ModelPart(
                    name=name,
                    map_hw=(features.shape[-2], features.shape[-1]),
                    channels=features.shape[1],
                    num_parameters=num_parameters,
                    gflops=flops / 1e9,
                    saved_mb=saved / 1e6,
                    receptive_field_px=receptive_fields_px.get(name),
                )
            )
    return [*parts, ModelPart(LOSS, None, None, 0, 0.0, saved_bytes.get(LOSS, 0) / 1e6, None)]


def _name_stage(meta_model: Segmenter, paths: Sequence[str]) -> str:
    units = []
    for path in paths:
        if any(True for _ in meta_model.get_submodule(path).parameters(recurse=False)):
            names = path.split(".")[1:]
            # The units inside a ModuleList are its elements.
            top = meta_model.get_submodule(f"backbone.{names[0]}")
            unit = ".".join(names[: 2 if isinstance(top, nn.ModuleList) else 1])
            if unit not in units:
                units.append(unit)
    name = "–".join([*units[:1], *units[1:][-1:]])
    return f"backbone.{name}" if name else "backbone"


def _name_head_part(meta_model: Segmenter, path: str) -> str:
    names = path.split(".")
    if len(names) == 1:
        return path
    module = meta_model.get_submodule(f"head.{names[1]}")
    if not names[1].isdigit():
        return f"head.{names[1]}"
    if any(True for _ in module.children()) and not isinstance(module, nn.Sequential):
        return f"head.{type(module).__name__}"
    is_classifier = isinstance(module, nn.Conv2d) and module.out_channels == meta_model.num_classes
    return "head.classifier" if is_classifier else "head.conv"
