"""What a model says of one image, small enough to keep: classes, confidence, probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.engines.engine import Engine
from atrous.engines.logits import check_finite, compute_confidence
from atrous.errors import DataError

MAX_PROBS_BYTES = 4 * 2**30
"""Probabilities of an image that would need more are refused."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one image, in main memory.

    Attributes:
        mask: uint8 (H, W), class indices, void 255 where the model is not sure enough.
        confidence: uint8 (H, W), the probability of the likeliest class, 255 for 1; None unless
            asked for.
        probs: float16 (classes, H, W), the probability of each class; None unless asked for.
    """

    mask: Tensor
    confidence: Tensor | None = None
    probs: Tensor | None = None


def compute_prediction(
    engine: Engine,
    image: Tensor,
    *,
    confidence: bool = False,
    probs: bool = False,
    unsure_below: float = 0.0,
) -> Prediction:
    """Segment one image of any size, without ever holding all of its logits.

    Args:
        engine: What runs the network.
        image: uint8 (3, H, W).
        confidence: Whether to keep how sure the model is of each pixel.
        probs: Whether to keep the probability of every class.
        unsure_below: Pixels whose likeliest class is less probable become void.

    Raises:
        ConfigError: More than the mask is asked for of an engine that gives masks only.
        DataError: The probabilities would need too much memory.
        WeightsError: The logits are not finite.
    """
    height, width = image.shape[-2:]
    num_classes = len(engine.classes)
    if probs and (num_bytes := 2 * num_classes * height * width) > MAX_PROBS_BYTES:
        raise DataError(
            f"The probabilities of {num_classes} classes at {width} × {height} pixels need "
            f"{num_bytes / 2**30:.1f} GiB, where at most {MAX_PROBS_BYTES / 2**30:.0f} GiB are "
            "kept. Leave probs out of --save for this image, or cut it into parts."
        )
    if not (confidence or probs or unsure_below > 0):
        return Prediction(engine.predict_mask(image).cpu())
    prediction = Prediction(
        torch.empty(height, width, dtype=torch.uint8),
        torch.empty(height, width, dtype=torch.uint8) if confidence else None,
        torch.empty(num_classes, height, width, dtype=torch.float16) if probs else None,
    )
    for rows, columns, logits in engine.iterate_blocks(image):
        best, indices = logits.max(dim=0)
        check_finite(best)
        mask = indices.to(torch.uint8)
        if confidence or unsure_below > 0:
            sureness = compute_confidence(logits, engine.temperature)
            mask[sureness < unsure_below] = IGNORE_INDEX
            if prediction.confidence is not None:
                prediction.confidence[rows, columns] = (255 * sureness).round().to(torch.uint8)
        if prediction.probs is not None:
            probabilities = (logits / engine.temperature).softmax(dim=0)
            prediction.probs[:, rows, columns] = probabilities.to(torch.float16)
        prediction.mask[rows, columns] = mask
    return prediction
