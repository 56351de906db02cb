"""The metadata of a weights file."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from atrous.classes import Classes


@dataclass(frozen=True)
class ModelCard:
    """Everything needed to build a model, preprocess images and name the classes.

    Attributes:
        name: Name of the variant.
        options: Options of `build_model`.
        classes: Names and colours of the classes.
        mean: Mean of each channel, for the normalization of images in 0-1.
        std: Standard deviation of each channel.
        size_hw: Height and width that images are resized to; None: they are not resized.
        training: Origin of the weights, such as step and score.
        temperature: Divisor of the logits that calibrates the probabilities; 1 unless it was
            fitted with `atrous evaluate --fit-temperature`.
    """

    name: str
    options: dict[str, Any]
    classes: Classes
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size_hw: tuple[int, int] | None
    training: dict[str, Any]
    temperature: float = 1.0

    def to_json(self) -> str:
        """Format the card as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "ModelCard":
        """Parse a card from JSON.

        Raises:
            ValueError, KeyError, TypeError: The text is not a card.
        """
        values = json.loads(text)
        names, colors = values.pop("classes").values()
        size_hw = values.pop("size_hw")
        return ModelCard(
            classes=Classes(tuple(names), tuple(tuple(color) for color in colors)),
            mean=tuple(values.pop("mean")),
            std=tuple(values.pop("std")),
            size_hw=size_hw and tuple(size_hw),
            **values,
        )
