"""Matching the tensors of a weights file with those of a model."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from atrous.errors import WeightsError
from atrous.models.segmenter import Segmenter

# Prefixes of torchvision's segmentation models, and ours.
_PART_NAMES = {"classifier": "head", "aux_classifier": "auxiliary_head"}
# Prefixes of the classifiers of classification models: torchvision's, timm's, EfficientNet-Lite's.
_CLASSIFIERS = ("fc.", "classifier.", "head.", "_conv_head.", "_bn1.", "_fc.")
# The same below timm's other prefixes: the convolution and norms between features and classifier.
_TIMM_CLASSIFIERS = ("conv_head.", "norm_head.", "bn2.", "final_conv.", "norm.", "head_drop.")


@dataclass(frozen=True)
class LoadedWeights:
    """Result of loading a weights file.

    Attributes:
        loaded: State-dict keys of the model that were loaded.
        unexpected: Keys in the file that were not used.
        missing: State-dict keys of the model that were not loaded and kept their values.
        num_file_classes: Number of classes of the file's classifier, if it was not loaded.
        num_file_bands: Number of image channels of the file, if its first convolution was adapted.
    """

    loaded: list[str]
    unexpected: list[str]
    missing: list[str]
    num_file_classes: int | None = None
    num_file_bands: int | None = None


def find_owner(tensor_name: str) -> str:
    """Return the path of the module that holds a tensor."""
    return tensor_name.rpartition(".")[0]


def group_names(names: Iterable[str], apart_from: Collection[str] = ()) -> list[str]:
    """Summarize tensor names by the largest modules that hold them.

    A module that also holds some of the tensors `apart_from` is split.

    Example:
        >>> group_names(["a.0.weight", "a.0.bias", "b.weight"], apart_from=["a.1.weight"])
        ['a.0 (weight, bias)', 'b.weight']
    """
    return list(_group_names(names, apart_from, 1))


def _group_names(names: Iterable[str], apart_from: Collection[str], depth: int) -> Iterator[str]:
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(".".join(name.split(".")[:depth]), []).append(name)
    for module, held in modules.items():
        own = [name.removeprefix(f"{module}.") for name in held]
        holds_others = any(name.startswith(f"{module}.") for name in apart_from)
        if len(held) == 1:
            yield held[0]
        elif holds_others or len({name.partition(".")[0] for name in own}) == 1:
            yield from _group_names(held, apart_from, depth + 1)
        else:
            is_short = len(own) <= 3 and not any("." in name for name in own)
            yield f"{module} ({', '.join(own) if is_short else f'{len(own)} tensors'})"


def fit_tensors(
    model: Segmenter,
    file_tensors: Mapping[str, Tensor],
    source: str,
    *,
    new_classifier: bool = False,
) -> LoadedWeights:
    """Load the tensors of a file into a model.

    Args:
        model: The model; it is not changed if there is an error.
        file_tensors: State dict of a segmentation model, ours or torchvision's (recognized by the
            prefix "backbone."), or of a classification model.
        source: Origin of the file, for messages.
        new_classifier: Also accept a file with another number of classes, without its classifier
            (see `Segmenter.list_classifier_paths`), or of image channels, with `adapt_channels`.

    Raises:
        WeightsError: The architecture, number of classes or number of image channels differs.
    """
    whole = any(name.startswith("backbone.") for name in file_tensors)
    prefix = "backbone." + getattr(model.backbone, "key_prefix", "")
    file_names = {_rename(name, whole, prefix): name for name in file_tensors}
    tensors = {name: file_tensors[file_names[name]] for name in file_names}
    own = model.state_dict()
    num_file_bands = _adapt_first_conv(own, tensors) if new_classifier else None
    # Files from before torch 0.4.1 have no num_batches_tracked, which is not used here.
    missing = [
        name for name in own if name not in tensors and not name.endswith("num_batches_tracked")
    ]
    unknown = [name for name in tensors if name not in own]
    shared = [name for name in own if name in tensors]
    reshaped = [name for name in shared if tensors[name].shape != own[name].shape]
    classifier = set(model.list_classifier_paths())
    resized = [
        name
        for name in reshaped
        if find_owner(name) in classifier and own[name].shape[1:] == tensors[name].shape[1:]
    ]
    replaced = {find_owner(name) for name in resized}
    per_class = [name for name in shared if find_owner(name) in replaced]
    optional: tuple[str, ...] = ("auxiliary_head.",)
    if not whole:
        optional += ("head.", *_CLASSIFIERS)
    if not whole and prefix != "backbone.":
        optional += tuple(f"{prefix}{name}" for name in _TIMM_CLASSIFIERS)
    misfits = {
        "have another shape": [name for name in reshaped if name not in resized],
        "are not in the file": [name for name in missing if not name.startswith(optional)],
        "are unknown to the model": [name for name in unknown if not name.startswith(optional)],
    }
    same = [n for n in shared if n not in reshaped and not n.endswith("num_batches_tracked")]
    _check_misfits(model, source, misfits, fitting=same)
    num_file_classes = tensors[resized[0]].shape[0] if resized else None
    if num_file_classes is not None and not new_classifier:
        raise WeightsError(
            f"{source} has {num_file_classes} classes, but this {model.name} has "
            f"{model.num_classes}. Build the model with num_classes={num_file_classes}, or use "
            "--init, which gives the model a new classifier."
        )
    fitting = {name: tensors[name] for name in shared if name not in per_class}
    model.load_state_dict(fitting, strict=False)
    unexpected = [file_names[name] for name in unknown + per_class]
    lacking = missing + per_class
    return LoadedWeights(list(fitting), unexpected, lacking, num_file_classes, num_file_bands)


def adapt_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt the weight of a first convolution to another number of image channels.

    With more channels, the old ones keep their filters, and each new one gets the mean of them.
    With fewer, each gets the sum of all filters divided by the new number, so that one grey channel
    is treated like a grey RGB image.

    Shapes:
        weight: float (out_channels, old in_channels, height, width)
        returns: float (out_channels, in_channels, height, width)
    """
    num_old = weight.shape[1]
    if in_channels < num_old:
        return weight.sum(1, keepdim=True).expand(-1, in_channels, -1, -1) / in_channels
    mean = weight.mean(1, keepdim=True).expand(-1, in_channels - num_old, -1, -1)
    return torch.cat([weight, mean], dim=1)


def _adapt_first_conv(own: Mapping[str, Tensor], tensors: dict[str, Tensor]) -> int | None:
    """Adapt the first convolution to the number of channels; returns the file's if it differs."""
    name = next(iter(own))  # every backbone starts with the convolution that reads the image
    if name in tensors and tensors[name].ndim == 4:
        shape, needed = tensors[name].shape, own[name].shape
        if shape[1] != needed[1] and (shape[0], *shape[2:]) == (needed[0], *needed[2:]):
            tensors[name] = adapt_channels(tensors[name], needed[1])
            return shape[1]
    return None


def _rename(file_name: str, whole: bool, prefix: str) -> str:
    if not whole and not file_name.startswith(_CLASSIFIERS):
        return prefix + file_name.removeprefix("features.")
    part, _, rest = file_name.partition(".")
    return f"{_PART_NAMES[part]}.{rest}" if whole and part in _PART_NAMES else file_name


def _check_misfits(
    model: Segmenter, source: str, misfits: dict[str, list[str]], *, fitting: Collection[str]
) -> None:
    found = [
        f"{len(names)} tensors {how}: {', '.join(group_names(names, fitting))} (first: {names[0]})"
        for how, names in misfits.items()
        if names
    ]
    if found:
        raise WeightsError(
            f"{source} does not fit {model.name}: {'; '.join(found)}. Expected weights of the same "
            "architecture and options (only the number of classes may differ); choose the model of "
            "the file, or another file."
        )
