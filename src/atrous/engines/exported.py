"""What an exported file says of itself, and what all engines that run one share."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import AfterValidator, ConfigDict, TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from atrous.data import normalize
from atrous.engines.engine import Engine
from atrous.engines.tta import TTA
from atrous.errors import ConfigError, WeightsError
from atrous.models import ModelCard
from atrous.models.card import Side, check_name, read_strictly
from atrous.models.weights import check_model
from atrous.parsing import parse_json

METADATA_KEY = "atrous"
INPUT_NAME = "image"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ExportCard:
    """What an exported file knows beside its network.

    Attributes:
        model: Classes with colours, normalisation, size, temperature: all that the weights file
            knew.
        target: What it was exported to, such as `openvino-int8`.
        uint8_input: Whether normalisation is inside. The input is then uint8 (batch, H, W, 3), an
            image as it is decoded, instead of normalised float32 (batch, 3, H, W).
        mask_output: Whether the comparison of the classes is inside. The output is then uint8
            (batch, H, W), class indices, instead of float32 logits (batch, classes, H, W).
        size_hw: The only height and width it takes; None for any from 32 up.
    """

    model: ModelCard
    target: Annotated[str, AfterValidator(check_name)]
    uint8_input: bool
    mask_output: bool
    size_hw: tuple[Side, Side] | None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_json(self) -> str:
        """Return the card as JSON: that of the model, and `export` beside it."""
        export = {
            "target": self.target,
            "uint8_input": self.uint8_input,
            "mask_output": self.mask_output,
            "size_hw": self.size_hw,
        }
        return json.dumps({**asdict(self.model), "export": export})

    @staticmethod
    def from_json(text: str) -> "ExportCard":
        """Read a card from JSON.

        Raises:
            ValueError: It is no card; the message names the keys that are wrong.
            ConfigError: There is no such model.
        """
        values = parse_json(text)
        export = values.pop("export", None) if isinstance(values, dict) else None
        if not isinstance(export, dict):
            raise ValueError("export: Field required")
        card = read_strictly(TypeAdapter(ExportCard), {**export, "model": values})
        check_model(card.model)
        return card


class ExportedEngine(Engine):
    """An engine that runs an exported file on the CPU; a subclass knows its runtime.

    Args:
        path: The exported file.
        card: What the file says of itself.
        precision: What it computes in: `32`, `bf16` or `int8`.
        tta: Test-time augmentation and sliding windows.
    """

    def __init__(self, path: Path, card: ExportCard, *, precision: str, tta: TTA) -> None:
        if tta.samples > 1:
            raise ConfigError(
                f"{path} was exported without dropout, so there is nothing to draw samples with. "
                "Use --engine torch."
            )
        super().__init__(
            card.model,
            name=card.target,
            precision=precision,
            device=torch.device("cpu"),
            tta=tta,
        )
        self.path = path
        self.export = card

    def require_logits(self) -> None:
        """Refuse a file that gives masks only.

        Raises:
            ConfigError: It does.
        """
        if self.export.mask_output:
            raise ConfigError(
                f"{self.path} was exported with --argmax and gives masks only: there are no "
                "logits to score or to take confidence from. Export it without --argmax."
            )

    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Give all bytes that stand for the network: those of its files."""
        for path in (self.path, self.path.with_suffix(".bin")):
            if path == self.path or (self.path.suffix == ".xml" and path.is_file()):
                yield path.read_bytes()

    @torch.inference_mode()
    def predict_mask(self, image: Tensor) -> Tensor:
        """Return the likeliest class of each pixel, as `TorchEngine.predict_mask` does.

        Of a file that gives masks only, several tta or windows vote.
        """
        if self.export.mask_output and self._takes_whole(image.shape[-2], image.shape[-1]):
            return torch.from_numpy(self._compute(image))
        return super().predict_mask(image)

    def prepare(self, image: Tensor) -> Array:
        """Turn a uint8 image (3, H, W) into the input of the file.

        Raises:
            ConfigError: The file takes images of another size only.
        """
        size_hw = (image.shape[-2], image.shape[-1])
        if self.export.size_hw not in (None, size_hw):
            raise ConfigError(_explain_size(self.path, self.export.size_hw, size_hw))
        if self.export.uint8_input:
            return image.permute(1, 2, 0)[None].contiguous().numpy()
        return normalize(image[None], self.card.mean, self.card.std).contiguous().numpy()

    def run(self, array: Array) -> Array:
        """Run the file as it is on what `prepare` returns: logits or masks, with the batch."""
        raise NotImplementedError

    def run_small(self, array: Array) -> Array:
        """Run the file up to its last resizing, where there is one: small logits."""
        return self.run(array)

    def _compute(self, image: Tensor) -> Array:
        return self._take_first(self.run(self.prepare(image)))

    def _take_first(self, results: Array) -> Array:
        """Return the only result of a batch, which must be for the classes of the card."""
        shape, num_classes = results.shape[1:], len(self.classes)
        if self.export.mask_output:
            fits = len(shape) == 2 and int(results.max(initial=0)) < num_classes
        else:
            fits = len(shape) == 3 and shape[0] == num_classes
        if not fits:
            raise WeightsError(
                f"{self.path} gives results of the shape {results.shape}, or classes that do not "
                f"exist, where its card names {num_classes} classes. Export the run again."
            )
        return results[0]

    def _forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.tta.window_px and self.export.size_hw:
            image = self._pad(image, self.export.size_hw)
        output = torch.from_numpy(self._compute(image))[..., :height, :width]
        if not self.export.mask_output:
            return output.float()
        return F.one_hot(output.long(), len(self.classes)).permute(2, 0, 1).float()

    def _pad(self, image: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Fill up a window that a small image has cut down, for a file of one size."""
        height, width = image.shape[-2:]
        if (height, width) == size_hw:
            return image
        rows, columns = max(height, size_hw[0]), max(width, size_hw[1])
        padded = self._fill[:, None, None].repeat(1, rows, columns)
        padded[:, :height, :width] = image
        return padded

    def _forward_small(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self._take_first(self.run_small(self.prepare(image)))).float()


def parse_export_card(path: Path, text: str | None) -> ExportCard:
    """Read the card that an exported file carries.

    Raises:
        WeightsError: It has none, or a damaged one.
    """
    if not text:
        raise WeightsError(
            f"{path} does not say which classes and normalisation it was made for: it was not "
            "written by `atrous export`. Export the run again."
        )
    try:
        return ExportCard.from_json(text)
    except (ValueError, ConfigError) as error:
        raise unreadable_export(path, error) from error


def unreadable_export(path: Path, error: Exception) -> WeightsError:
    """Return the error for an exported file that a runtime refuses."""
    reason = str(error).strip().split("\n", maxsplit=1)[0][:200] or type(error).__name__
    return WeightsError(
        f"{path} cannot be read as an exported model: it is missing, damaged, cut short or of "
        f"another kind ({reason}). Export the run again."
    )


def to_float32(array: Array) -> npt.NDArray[np.float32]:
    """Return an array in float32."""
    return np.asarray(array, np.float32)


def _explain_size(path: Path, taken_hw: tuple[int, int] | None, size_hw: tuple[int, int]) -> str:
    height, width = taken_hw or (0, 0)
    remedy = f"look through windows with --window {height}, or " if height == width else ""
    return (
        f"{path} takes images of {width} × {height} pixels only (width × height), and was to "
        f"see one of {size_hw[1]} × {size_hw[0]}. To use it, {remedy}export it again without "
        "--size, for any height and width."
    )
