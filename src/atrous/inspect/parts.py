"""The parts of a model, and what each of them takes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from atrous.inspect.memory import LOSS
from atrous.inspect.receptive_field import ReceptiveField
from atrous.inspect.trace import Call, list_tensors
from atrous.models import Segmenter


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        name: Such as `backbone.layer1` or `head.aspp`.
        map_hw: Height and width of the map that it gives; None for the loss.
        channels: Channels of that map.
        num_parameters: Its weights.
        gflops: Its operations for one picture, in 10⁹, each multiply-add as two.
        kept_mb: What of it training keeps for the backward pass, in 10⁶ bytes.
        receptive_field_px: Side of the square of pixels that a cell of its map sees through
            convolutions and windows; None if it sees pooled features alone.
        whole_picture: Whether it also sees a mean over the picture or shares of it.
        measured_px: Side of the square that holds 95 % of the gradient energy of the central cell;
            None where it was not measured.
    """

    name: str
    map_hw: tuple[int, int] | None
    channels: int | None
    num_parameters: int
    gflops: float
    kept_mb: float
    receptive_field_px: int | None
    whole_picture: bool
    measured_px: int | None


def assign_parts(shadow: Segmenter, calls: Sequence[Call]) -> dict[str, str]:
    """Say which part each module belongs to.

    A part of the backbone ends where one of its feature maps is done, and has the names of the
    modules with weights in it: `backbone.layer1`. A part of the head is one of its modules, or
    several nameless ones in a row: `head.aspp`, `head.ASPP`, `head.conv`, `head.classifier`.

    Returns:
        The part of each path, in the order in which the parts are done.
    """
    parts: dict[str, str] = {}
    maps = next(list_tensors(call.output) for call in calls if call.path == "backbone")
    ends = {_find_end(calls, features) for features in maps}
    stage: list[str] = []
    for index, call in enumerate(calls):
        top = call.path.split(".")[0]
        if top == "backbone":
            stage.append(call.path)
            if index in ends or call.path == top:
                # A module that works in several stages, such as one pooling, counts for the last.
                parts = {path: part for path, part in parts.items() if path not in stage}
                parts |= dict.fromkeys(stage, _name_stage(shadow, stage))
                stage = []
        elif call.path not in parts:
            parts[call.path] = _name_head_part(shadow, call.path) if top == "head" else top
    return parts


def list_measured_paths(parts: Mapping[str, str]) -> dict[str, str]:
    """Return the parts whose fields are worth measuring, and the module that ends each.

    They are those of the backbone, and the last of the head.
    """
    ends = {part: path for path, part in parts.items() if path.startswith("backbone.")}
    head = [(part, path) for path, part in parts.items() if path.startswith("head.")]
    return {**ends, **dict(head[-1:])}


def describe_parts(
    shadow: Segmenter,
    calls: Sequence[Call],
    kept_bytes: Mapping[str, int],
    fields: Mapping[str, ReceptiveField],
    measured_px: Mapping[str, int | None],
) -> list[Part]:
    """Add up, part by part, what the modules of a model take.

    Args:
        shadow: The model, on the meta device.
        calls: Of its modules.
        kept_bytes: What training keeps of each module, by path.
        fields: Receptive field of each module, by path.
        measured_px: Measured fields, by part.
    """
    part_of = assign_parts(shadow, calls)
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for path, part in part_of.items():
        paths[part].append(path)
    parts = []
    for name, own_paths in paths.items():
        own_calls = [call for call in calls if part_of[call.path] == name]
        num_parameters = sum(
            parameter.numel()
            for path in own_paths
            for parameter in shadow.get_submodule(path).parameters(recurse=False)
        )
        flops = sum(call.flops for call in own_calls)
        kept = sum(kept_bytes.get(path, 0) for path in own_paths)
        if num_parameters or flops or kept:
            features = list_tensors(own_calls[-1].output)[-1]
            own_fields = [fields[path] for path in own_paths if path in fields]
            parts.append(
                Part(
                    name=name,
                    map_hw=(features.shape[-2], features.shape[-1]),
                    channels=features.shape[1],
                    num_parameters=num_parameters,
                    gflops=flops / 1e9,
                    kept_mb=kept / 1e6,
                    receptive_field_px=max(
                        (field.size_px for field in own_fields if field.size_px), default=None
                    ),
                    whole_picture=any(field.whole_picture for field in own_fields),
                    measured_px=measured_px.get(name),
                )
            )
    loss_mb = kept_bytes.get(LOSS, 0) / 1e6
    return [*parts, Part(LOSS, None, None, 0, 0.0, loss_mb, None, False, None)]


def _find_end(calls: Sequence[Call], features: object) -> int:
    """Return the place of the last call inside the backbone that returned a feature map."""
    return max(
        (
            index
            for index, call in enumerate(calls)
            if call.path.startswith("backbone.")
            and any(tensor is features for tensor in list_tensors(call.output))
        ),
        default=-1,
    )


def _name_stage(shadow: Segmenter, paths: Sequence[str]) -> str:
    units = []
    for path in paths:
        if any(True for _ in shadow.get_submodule(path).parameters(recurse=False)):
            names = path.split(".")[1:]
            # Below a list, its elements are the units.
            top = shadow.get_submodule(f"backbone.{names[0]}")
            unit = ".".join(names[: 2 if isinstance(top, nn.ModuleList) else 1])
            if unit not in units:
                units.append(unit)
    name = "–".join([*units[:1], *units[1:][-1:]])
    return f"backbone.{name}" if name else "backbone"


def _name_head_part(shadow: Segmenter, path: str) -> str:
    names = path.split(".")
    if len(names) == 1:
        return path
    module = shadow.get_submodule(f"head.{names[1]}")
    if not names[1].isdigit():
        return f"head.{names[1]}"
    if any(True for _ in module.children()) and not isinstance(module, nn.Sequential):
        return f"head.{type(module).__name__}"
    is_classifier = isinstance(module, nn.Conv2d) and module.out_channels == shadow.num_classes
    return "head.classifier" if is_classifier else "head.conv"
