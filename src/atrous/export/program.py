"""A network as a program of torch.export, with optional normalization and argmax."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from atrous.engines.exported_engine import INPUT_NAME, ExportCard
from atrous.errors import ExportError
from atrous.models import Segmenter


class ExportNetwork(nn.Module):
    """A network with normalization before and argmax behind it, if the card says so.

    Shapes:
        image: normalized float32 (batch, bands, H, W); or uint8 (batch, H, W, 3) with `uint8_input`
        returns: float32 logits (batch, classes, H, W); or uint8 (batch, H, W) with `mask_output`
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, network: Segmenter, card: ExportCard) -> None:
        super().__init__()
        self.network = network
        self.uint8_input = card.uint8_input
        self.mask_output = card.mask_output
        for name, values in (("offset", card.model.mean), ("scale", card.model.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits or masks."""
        if self.uint8_input:
            image = (image.permute(0, 3, 1, 2).float() - self.offset) / self.scale
        logits = self.network(image)
        return logits.argmax(dim=1).to(torch.uint8) if self.mask_output else logits


def build_program(model: Segmenter, card: ExportCard) -> ExportedProgram:
    """Trace a model for any batch size and images from 32 px up, or for one image of fixed size.

    Args:
        model: A model in evaluation mode, on the CPU.

    Raises:
        ExportError: The model cannot be traced.
    """
    network = ExportNetwork(model, card).eval()
    batch, (height, width) = (1, card.size_hw) if card.size_hw else (2, (96, 128))
    if card.uint8_input:
        example = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
        axes = (0, 1, 2)
    else:
        example = torch.zeros(batch, len(card.model.mean), height, width)
        axes = (0, 2, 3)
    sizes = None if card.size_hw else {INPUT_NAME: dict.fromkeys(axes, Dim.DYNAMIC)}
    try:
        with torch.no_grad():
            return torch.export.export(network, (example,), dynamic_shapes=sizes, strict=False)
    except Exception as error:  # tracing fails in many ways
        raise ExportError(
            f"{model.name} cannot be traced for export: {str(error).strip().splitlines()[0]}. "
            "Try a fixed size (--size), or report the model and its options."
        ) from error
