"""The recipe of `atrous train` without one: pretrained weights, and sizes that fit the data."""

from pathlib import Path
from typing import Any

from atrous.data import open_dataset
from atrous.data.sizes import suggest_sizes
from atrous.model_options import DEFAULT_SYSTEM, ModelOptions
from atrous.models.weights import find_weights, load_card

_BATCH_SIZE, _NUM_EPOCHS, _MIN_STEPS, _MAX_STEPS = 8, 30, 1000, 10_000


def suggest_recipe(
    root: Path | str,
    *,
    model: str | None = None,
    init: str | None = None,
    train_split: str = "train",
    format: str = "auto",
) -> dict[str, dict[str, Any]]:
    """Return the sections of a recipe that fine-tunes DeepLabv3+ on EfficientNet-Lite0.

    The sizes of the images are those of `suggest_sizes`. The run has 30 epochs, but at least 1000
    and at most 10,000 steps. The atrous rates are those that the crop trains, and the loss includes
    Dice; the other values are those of recipes/camvid.toml (docs/results.md).

    Args:
        root: Folder of the dataset.
        model: Another model. Only EfficientNet-Lite has ImageNet weights that need no download,
            so that others start from random weights.
        init: Initial weights. Without `model`, the model is that of a run or ready model.
        train_split: Split to train on.
        format: Layout of the dataset.

    Raises:
        DataError: The split does not exist.
    """
    dataset = open_dataset(root, train_split, format=format)
    has_colors = dataset.bands in (None, 3)
    steps = round(_NUM_EPOCHS * len(dataset) / _BATCH_SIZE)
    steps = max(_MIN_STEPS, min(_MAX_STEPS, steps))
    return {
        "model": _suggest_model(model) if model else _read_model(init),
        "data": {
            **suggest_sizes(root, train_split, format=format),
            "scale": [0.5, 1.5],
            "flip": 0.5,
            "brightness": 0.3,
            "contrast": 0.3,
            **({"saturation": 0.3, "hue": 0.03} if has_colors else {}),
        },
        "loss": {"class_weights": "median_frequency", "class_weight_power": 0.2, "dice": 1.0},
        "train": {
            "duration": f"{steps}it",
            "batch_size": _BATCH_SIZE,
            "optimizer": "adamw",
            "lr": 1.5e-3,
            "backbone_lr": 0.3,
            "weight_decay": 0.01,
            "schedule": "poly",
            "warmup": "100it",
            "clip_norm": 5.0,
            "ema": 0.998,
            "validate_every": f"{steps // 8}it",
        },
    }


def _read_model(init: str | None) -> dict[str, Any]:
    """Return the model and options of initial weights, or the default model."""
    path = None if init in (None, "none", "imagenet", "coco") else find_weights(Path(str(init)))
    card = load_card(path) if path is not None and path.suffix == ".safetensors" else None
    if card is None:
        return _suggest_model(f"{DEFAULT_SYSTEM}_efficientnet_lite0")
    options = ModelOptions.model_fields.keys() & card.options.keys()
    return {"name": card.name, **{key: card.options[key] for key in options}}


def _suggest_model(name: str) -> dict[str, Any]:
    values: dict[str, Any] = {"name": name}
    if "efficientnet_lite" in name:
        values["init"] = "imagenet"
    if name.startswith(f"{DEFAULT_SYSTEM}_"):
        values |= {"separable": True, "decoder_channels": 128, "dropout": 0.1}
        values["atrous_rates"] = "fit"
    return values
