"""Loading and saving weights: our files, torchvision's files, published weights."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from atrous.errors import AtrousError, ConfigError, WeightsError
from atrous.files import write_atomically
from atrous.model_options import complete_options
from atrous.models.card import ModelCard
from atrous.models.fitting import LoadedWeights, fit_tensors
from atrous.models.layers import on_meta_device
from atrous.models.ready import READY_MODELS, find_ready_model
from atrous.models.segmenter import Segmenter
from atrous.models.timm_backbone import load_timm_weights
from atrous.models.wheels import WHEELS, load_wheel
from atrous.models.zoo import TIMM, build_model, find_variant, scale_rates
from atrous.run import RunFolder

METADATA_KEY = "atrous"

_COCO_VARIANTS = (
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "fcn_resnet50",
    "fcn_resnet101",
)
_WITHOUT_IMAGENET = ("unet", "xception65")
"""Backbones without weights in torchvision."""


def save_weights(path: Path | str, model: Segmenter, card: ModelCard) -> None:
    """Save weights and card as a safetensors file, atomically.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    content = save(tensors, {METADATA_KEY: card.to_json()})
    write_atomically(Path(path), lambda file: file.write(content))


def load_model(run_or_file: Path | str, *, device: torch.device | str = "cpu") -> Segmenter:
    """Load a trained model for inference.

    Args:
        run_or_file: A run folder (its best weights, or else its last), a weights file, or the name
            of a ready model.

    Returns:
        The model in evaluation mode, with `model.card` set.

    Raises:
        WeightsError: There are no weights, or the file is damaged or has no card.

    Example:
        >>> model = load_model("runs/camvid")  # doctest: +SKIP
        >>> model.card.classes.names  # doctest: +SKIP
        ('sky', 'building', ...)
    """
    path = find_weights(Path(run_or_file))
    tensors, card = _read_safetensors(path), load_card(path)
    if card is None:
        raise WeightsError(
            f"{path} does not contain the name of its model: it was not written by atrous. Build "
            "the model with build_model, then load the file with load_weights."
        )
    try:
        with on_meta_device():
            model = build_model(card.name, **card.options)
        for key, tensor in model.state_dict().items():
            if key in tensors and tensors[key].shape != tensor.shape:
                sizes = f"{tuple(tensors[key].shape)}, not {tuple(tensor.shape)}"
                raise ValueError(f"{key} has the shape {sizes} as in its card")
        # Copied because the file is memory-mapped; `to_empty` would import torch's compiler.
        tensors = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
        model.load_state_dict(tensors, assign=True)
    except (AtrousError, RuntimeError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error
    model.card = card
    return model.float().eval()


def load_card(path: Path) -> ModelCard | None:
    """Load only the card of a weights file; None if it has none.

    Raises:
        WeightsError: The file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    return None if text is None else parse_card(path, text)


def parse_card(path: Path, text: str) -> ModelCard:
    """Parse and check the card of a file.

    Raises:
        WeightsError: The card is invalid; the message names the file and the keys.
    """
    try:
        card = ModelCard.from_json(text)
        check_model(card)
    except (ValueError, ConfigError) as error:
        raise WeightsError(
            f"The model card of {path} is invalid: {str(error).rstrip('.')}. Download the file "
            "again, or use another weights file."
        ) from error
    return card


def check_model(card: ModelCard) -> None:
    """Check that a card describes an existing model, with consistent classes and channels.

    Raises:
        ConfigError: The model or an option does not exist.
        ValueError: Two values of the card contradict each other.
    """
    options = complete_options(card.name, find_variant(card.name).options, card.options)
    num_classes, in_channels = options["num_classes"], options["in_channels"]
    if len(card.classes) != num_classes:
        raise ValueError(f"`classes` holds {len(card.classes)}, but num_classes is {num_classes}.")
    for key, channels in (("mean", card.mean), ("std", card.std)):
        if len(channels) not in (3, in_channels):  # red, green and blue, or one for each
            raise ValueError(f"`{key}` holds {len(channels)}, but in_channels is {in_channels}.")
    ranges, *others = card.ranges, card.mean, card.std
    if ranges is not None and any(len(one) != in_channels for one in (ranges, *others)):
        raise ValueError(f"`ranges` holds {len(ranges)}, but in_channels is {in_channels}.")


def find_weights(run_or_file: Path) -> Path:
    """Return the weights file: that of a ready model or run folder, or the path itself.

    Raises:
        WeightsError: The file does not exist, or the run folder has none.
    """
    if ready := find_ready_model(run_or_file):
        return ready
    run = RunFolder(run_or_file)
    for path in (run_or_file, run.best, run.last):
        if path.is_file():
            return path
    if not run_or_file.is_dir():
        raise WeightsError(
            f"There is no run folder or weights file {run_or_file}. The ready models are "
            f"{' and '.join(READY_MODELS)}."
        )
    raise WeightsError(
        f"{run_or_file} holds neither best.safetensors nor last.safetensors. They are written at "
        "the first validation and at the end of training: run the same `atrous train` again to "
        "resume, or give another run folder or a weights file."
    )


def load_weights(model: Segmenter, file: Path | str) -> LoadedWeights:
    """Load a weights file into a model.

    The weights of a segmentation model (ours, or torchvision's DeepLabv3 or FCN, plain or inside
    {"model": …}) must match all of the model except for an auxiliary head. Those of a
    classification model (torchvision's ResNet, MobileNetV3 or VGG16 with batch norm, timm's
    Xception-65) must match the backbone.

    Args:
        model: The model; it is not changed if there is an error.
        file: A .safetensors file, a run folder, or a state dict written by `torch.save`.

    Returns:
        The loaded, unexpected and missing state-dict keys.

    Raises:
        WeightsError: The file does not exist, is damaged, or is for another architecture or number
            of classes; the message names the tensors that do not fit.
    """
    path = find_weights(Path(file))
    return fit_tensors(model, _read_tensors(path), str(path))


def init_model_options(name: str, init: str, *, output_stride: int = 16) -> dict[str, Any]:
    """Return the options of `build_model` that initial weights require.

    Only "coco" for MobileNetV3 requires one: it was trained with rates (12, 24, 36) at output
    stride 16. The ResNets were trained with the same rates at stride 8, which is our default.
    """
    if init == "coco" and name == "deeplabv3_mobilenet_v3_large":
        return {"atrous_rates": scale_rates((12, 24, 36), 16, output_stride)}
    return {}


def init_weights(model: Segmenter, init: str) -> LoadedWeights | None:
    """Load the initial weights of a model.

    Args:
        init: "none"; "imagenet" (the backbone, of torchvision, timm or an installed package);
            "coco" (torchvision's DeepLabv3 or FCN, 21 classes of VOC); the path of a file or run
            folder; or the name of a ready model. If the number of classes differs, the model keeps
            its random classifier. If the number of image channels differs, the first convolution
            is adapted (`fitting.adapt_channels`).

    Returns:
        The loaded, unexpected and missing state-dict keys; None for "none".

    Raises:
        ConfigError: There are no such published weights for the variant.
        WeightsError: The weights cannot be downloaded or do not fit.
    """
    if init == "none":
        return None
    if init in ("imagenet", "coco"):
        tensors, source = _fetch_published(model.name, init), f"the published {init} weights"
    else:
        path = find_weights(Path(init))
        tensors, source = _read_tensors(path), str(path)
    return fit_tensors(model, tensors, source, new_classifier=True)


def _fetch_published(name: str, init: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    backbone = find_variant(name).backbone
    if init == "coco" and name not in _COCO_VARIANTS:
        raise ConfigError(
            f"There are no published COCO weights for {name}. They exist for "
            f"{', '.join(_COCO_VARIANTS)}; --init imagenet works for every backbone except "
            f"{' and '.join(_WITHOUT_IMAGENET)}."
        )
    if init == "coco":
        published = get_model_weights(name)["COCO_WITH_VOC_LABELS_V1"]
    elif backbone in WHEELS:
        return load_wheel(backbone)
    elif backbone.startswith(TIMM):
        return load_timm_weights(backbone.removeprefix(TIMM))
    elif backbone in _WITHOUT_IMAGENET:
        raise ConfigError(
            f"There are no published ImageNet weights for {name}: torchvision has none for its "
            f"backbone ({backbone}). Use random weights (--init none), or a file (--init PATH)."
        )
    else:
        published = get_model_weights(backbone)["IMAGENET1K_V1"]
    try:
        # weights_only: the hash of a cached file is not checked again.
        return published.get_state_dict(progress=True, check_hash=True, weights_only=True)
    # A corrupt download raises RuntimeError, a missing network URLError, which is an OSError.
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        is_pickle = isinstance(error, pickle.UnpicklingError)
        reason = "the file in the cache is not a plain state dict" if is_pickle else error
        raise WeightsError(
            f"The {init} weights for {name} could not be downloaded from {published.url} "
            f"({reason}). Without a network, download the file on another machine and put it into "
            f"{cache}, or give its path with --init PATH; or use random weights (--init none)."
        ) from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        # Torchvision's training scripts save their arguments, a Namespace, with the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if isinstance(content, dict):
        content = content.get("model", content)
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise WeightsError(
            f"{path} is not a state dict. Expected a dict of tensors by name, or such a dict under "
            "the key 'model'; save one with torch.save(model.state_dict(), PATH)."
        )
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split())[:200]
    return WeightsError(
        f"{path} cannot be read as weights: it is damaged, truncated or of another format "
        f"({reason}). Expected a .safetensors file, or a state dict written by torch.save; copy or "
        "download it again, or use another weights file of the run."
    )
