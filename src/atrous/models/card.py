"""What a weights file knows beside its weights."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from atrous.classes import Classes


@dataclass(frozen=True)
class ModelCard:
    """Enough to build a model again, feed it pictures and name what it finds.

    Attributes:
        name: Name of the variant.
        options: Options of `build_model`.
        classes: Names and colours of the classes.
        mean: Mean of each channel (red, green and blue, unless the model has others) that pictures
            in 0-1 are normalised with.
        std: Their standard deviation.
        size_hw: Height and width that pictures are resized to; None: they are taken as they are.
        training: How the weights came about: step, score, version and so on.
        temperature: What logits are divided by so that probabilities can be trusted; 1 unless
            `atrous calibrate` fitted another.
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
        """Return the card as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "ModelCard":
        """Read a card from JSON.

        Raises:
            ValueError, KeyError, TypeError: It is no card.
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
