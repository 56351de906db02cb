"""The prediction for one image: mask, confidence, probabilities."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from atrous.bands import Ranges
from atrous.classes import IGNORE_INDEX
from atrous.engines.engine import Engine
from atrous.engines.logits import check_finite, compute_confidence
from atrous.errors import DataError
from atrous.prediction.regions import Indices, merge_small_regions

MAX_PROBS_BYTES = 4 * 2**30
"""Maximum size of the probabilities of an image."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, in main memory.

    Attributes:
        mask: uint8 (H, W), class indices; 255 where the confidence is below the minimum.
        confidence: uint8 (H, W), probability of the likeliest class, 255 for 1; None unless
            requested.
        probs: float16 (classes, H, W), probability of each class; None unless requested.
    """

    mask: Tensor
    confidence: Tensor | None = None
    probs: Tensor | None = None


@dataclass(frozen=True)
class SegmentedImage:
    """An image and its prediction.

    Attributes:
        source: Name of the image in messages.
        image: uint8 (3, H, W), or float32 (bands, H, W).
        prediction: Mask and other requested tensors.
        name: Path of the image below the given folder.
        link: Path of the image from the folder of its output files.
        ranges: Value range of each band; None for 8-bit RGB.
    """

    source: str
    image: Tensor
    prediction: Prediction
    name: str = ""
    link: str = ""
    ranges: Ranges | None = None

    @cached_property
    def labels(self) -> Indices:
        """The mask for annotation tools, without small regions, uint8 (H, W)."""
        return merge_small_regions(self.prediction.mask.numpy())


def compute_prediction(
    engine: Engine,
    image: Tensor,
    *,
    confidence: bool = False,
    probs: bool = False,
    min_confidence: float = 0.0,
    check: Callable[[], object] = lambda: None,
) -> Prediction:
    """Segment one image of any size without holding all of its logits.

    Args:
        engine: Runs the network.
        image: uint8 (3, H, W), or float32 (bands, H, W); NaN where there is no data, which is
            ignored (255) in the mask.
        confidence: Whether to return the probability of the likeliest class.
        probs: Whether to return the probability of every class.
        min_confidence: Pixels whose likeliest class is less probable are ignored (255).
        check: Called between sliding windows; its error ends the prediction.

    Raises:
        ConfigError: The engine computes masks only, and more is requested.
        DataError: The probabilities need too much memory.
        WeightsError: The logits are not finite.
    """
    height, width = image.shape[-2:]
    num_classes = len(engine.classes)
    if probs and (num_bytes := 2 * num_classes * height * width) > MAX_PROBS_BYTES:
        raise DataError(
            f"The probabilities of {num_classes} classes at {width} × {height} pixels need "
            f"{num_bytes / 2**30:.1f} GiB; the maximum is {MAX_PROBS_BYTES / 2**30:.0f} GiB. "
            "Leave probs out of --save for this image, or cut it into parts."
        )
    if not (confidence or probs or min_confidence > 0):
        return Prediction(ignore_nodata(engine.predict_mask(image, check).cpu(), image))
    prediction = Prediction(
        torch.empty(height, width, dtype=torch.uint8),
        torch.empty(height, width, dtype=torch.uint8) if confidence else None,
        torch.empty(num_classes, height, width, dtype=torch.float16) if probs else None,
    )
    for rows, columns, logits in engine.iterate_blocks(image):
        check()
        mask, best_probs = _decide(engine, logits, min_confidence, confidence=confidence)
        if prediction.confidence is not None and best_probs is not None:
            prediction.confidence[rows, columns] = best_probs
        if prediction.probs is not None:
            probabilities = (logits / engine.temperature).softmax(dim=0)
            prediction.probs[:, rows, columns] = probabilities.to(torch.float16)
        prediction.mask[rows, columns] = mask
    ignore_nodata(prediction.mask, image)
    return prediction


def predict_blocks(
    engine: Engine, image: Tensor, *, confidence: bool = False, min_confidence: float = 0.0
) -> Iterator[tuple[slice, slice, Tensor, Tensor | None]]:
    """Yield (rows, columns, mask, confidence) of an image block by block, each pixel once.

    See `compute_prediction` for the arguments and errors. The blocks are in main memory.
    """
    if confidence or min_confidence > 0:
        for rows, columns, logits in engine.iterate_blocks(image):
            mask, best_probs = _decide(engine, logits, min_confidence, confidence=confidence)
            yield rows, columns, mask.cpu(), None if best_probs is None else best_probs.cpu()
        return
    for rows, columns, mask in engine.iterate_masks(image):
        yield rows, columns, mask.cpu(), None


def _decide(
    engine: Engine, logits: Tensor, min_confidence: float, *, confidence: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the classes of a block, and their probability, 0 to 255, if it is wanted."""
    best, indices = logits.max(dim=0)
    check_finite(best)
    mask = indices.to(torch.uint8)
    if not (confidence or min_confidence > 0):
        return mask, None
    best_probs = compute_confidence(logits, engine.temperature)
    mask[best_probs < min_confidence] = IGNORE_INDEX
    return mask, (255 * best_probs).round().to(torch.uint8) if confidence else None


def ignore_nodata(mask: Tensor, image: Tensor) -> Tensor:
    """Set the pixels of a mask to 255 where its image has no data, and return the mask."""
    if image.is_floating_point():
        mask.numpy()[image[0].isnan().numpy()] = IGNORE_INDEX
    return mask
