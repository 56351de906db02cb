"""The metadata of exported files, and the interface of the engines that run them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy.typing as npt
import torch
from pydantic import AfterValidator, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from atrous.devices import Precision, resolve_precision
from atrous.engines.engine import Engine
from atrous.engines.tta import TTA, pad_image
from atrous.errors import ConfigError, WeightsError
from atrous.images import normalize
from atrous.models import ModelCard
from atrous.models.card import Side, check_name, read_strictly
from atrous.models.weights import check_model
from atrous.parsing import parse_json

METADATA_KEY = "atrous"
INPUT_NAME = "image"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ExportCard:
    """Metadata of an exported file.

    Attributes:
        target: Export target, such as `openvino-int8`.
        uint8_input: Whether the file normalizes images. Its input is then uint8 (batch, H, W, 3)
            instead of normalized float32 (batch, bands, H, W).
        mask_output: Whether the file returns class indices, uint8 (batch, H, W), instead of
            float32 logits (batch, classes, H, W).
        size_hw: Height and width of the images in pixels; None for any size from 32 up.
    """

    model: ModelCard
    target: Annotated[str, AfterValidator(check_name)]
    uint8_input: bool
    mask_output: bool
    size_hw: tuple[Side, Side] | None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_json(self) -> str:
        """Return the card of the model as JSON, with the other fields under `export`."""
        values = asdict(self)
        return json.dumps({**values.pop("model"), "export": values})

    @staticmethod
    def from_json(text: str) -> "ExportCard":
        """Parse a card from JSON.

        Raises:
            ValueError: The text is not a valid card; the message names the invalid keys.
            ConfigError: The model is unknown.
        """
        values = parse_json(text)
        export = values.pop("export", None) if isinstance(values, dict) else None
        if not isinstance(export, dict):
            raise ValueError("export: Field required")
        card = read_strictly(ExportCard, {**export, "model": values})
        check_model(card.model)
        return card


class ExportedEngine(Engine):
    """Runs an exported file on the CPU; a subclass runs its runtime in `run`.

    The precision is `32`, `bf16` or `auto`, for a file that is not int8.

    Raises:
        ConfigError: `tta` samples dropout, which exported files do not have.
    """

    def __init__(
        self, path: Path, card: ExportCard, *, precision: Precision = "32", tta: TTA
    ) -> None:
        if tta.samples > 1:
            raise ConfigError(
                f"{path} was exported without dropout, so it cannot draw samples. "
                "Use --engine torch."
            )
        cpu = torch.device("cpu")
        is_int8 = card.target.endswith("int8")
        super().__init__(
            card.model,
            name=card.target,
            precision="int8" if is_int8 else resolve_precision(precision, cpu),
            device=cpu,
            tta=tta,
        )
        self.path = path
        self.export = card

    def require_logits(self) -> None:
        """Raise a ConfigError if the file returns masks only."""
        if self.export.mask_output:
            raise ConfigError(
                f"{self.path} was exported with --argmax and returns masks only, but scores "
                "and confidence need logits. Export it without --argmax."
            )

    def iterate_weights(self) -> Iterator[bytes]:
        """Yield the bytes of the exported files."""
        for path in list_export_files(self.path):
            yield path.read_bytes()

    @torch.inference_mode()
    def predict_mask(self, image: Tensor, check: Callable[[], object] = lambda: None) -> Tensor:
        """Return the most likely class of each pixel.

        If the file returns masks only, the passes of test-time augmentation and the overlapping
        windows vote. See `Engine.predict_mask`.
        """
        if self.export.mask_output and self._is_single_pass(image.shape[-2], image.shape[-1]):
            return self._run_image(self.run, image)
        return super().predict_mask(image, check)

    def run(self, array: Array) -> Array:
        """Run the file on an input batch and return its output batch: logits or masks."""
        raise NotImplementedError

    def run_small(self, array: Array) -> Array:
        """Run the file up to its last upsampling, if it can be cut there: logits of any size."""
        return self.run(array)

    def _forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.tta.window_px and self.export.size_hw:  # windows are cropped to a small image
            image = pad_image(image, self.export.size_hw, self._fill)
        output = self._run_image(self.run, image)[..., :height, :width]
        if not self.export.mask_output:
            return output.float()
        return F.one_hot(output.long(), len(self.classes)).permute(2, 0, 1).float()

    def _forward_small(self, image: Tensor) -> Tensor:
        return self._run_image(self.run_small, image).float()

    def _run_image(self, run: Callable[[Array], Array], image: Tensor) -> Tensor:
        """Run the file on an image (bands, H, W) and return its logits or mask, checked."""
        size_hw = (image.shape[-2], image.shape[-1])
        if self.export.size_hw is not None and self.export.size_hw != size_hw:
            height, width = self.export.size_hw
            remedy = f"Use windows with --window {height}, or export"
            raise ConfigError(
                f"{self.path} takes images of {width} × {height} pixels only (width × height), not "
                f"of {size_hw[1]} × {size_hw[0]}. {remedy if height == width else 'Export'} it "
                "again without --size, for any height and width."
            )
        card = self.card
        if self.export.uint8_input:
            batch = image.permute(1, 2, 0)[None]
        else:
            batch = normalize(image[None], card.mean, card.std, card.ranges)
        output = run(batch.contiguous().numpy())
        shape, num_classes = output.shape[1:], len(self.classes)
        if self.export.mask_output:
            is_valid = len(shape) == 2 and int(output.max(initial=0)) < num_classes
        else:
            is_valid = len(shape) == 3 and shape[0] == num_classes
        if not is_valid:
            raise WeightsError(
                f"{self.path} returns outputs of shape {output.shape}, or class indices that do "
                f"not exist; its card lists {num_classes} classes. Export the run again."
            )
        return torch.from_numpy(output[0])


def list_export_files(path: Path) -> list[Path]:
    """Return the files of an export: the one to open, and the .bin that belongs to an .xml."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def parse_export_card(path: Path, text: str | None) -> ExportCard:
    """Parse the card of an exported file.

    Raises:
        WeightsError: The card is missing or invalid.
    """
    if not text:
        raise WeightsError(
            f"{path} has no metadata with its classes and normalization: it was not written by "
            "`atrous export`. Export the run again."
        )
    try:
        return ExportCard.from_json(text)
    except (ValueError, ConfigError) as error:
        raise build_unreadable_error(path, error) from error


def build_unreadable_error(path: Path, error: Exception) -> WeightsError:
    """Build the error for an exported file that its runtime cannot read."""
    reason = str(error).strip().split("\n", maxsplit=1)[0][:200] or type(error).__name__
    return WeightsError(
        f"{path} cannot be read as an exported model: it is missing, damaged, truncated or of "
        f"another format ({reason}). Export the run again."
    )
