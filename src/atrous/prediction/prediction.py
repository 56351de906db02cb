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


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, in main memory; None is what was not requested.

    Shapes:
        mask: uint8 (H, W), class indices; 255 where the confidence is below the minimum
        confidence: uint8 (H, W), probability of the likeliest class, 255 for 1
        probs: float16 (classes, H, W), probability of each class
    """

    mask: Tensor
    confidence: Tensor | None = None
    probs: Tensor | None = None


@dataclass(frozen=True)
class SegmentedImage:
    """An image, uint8 (3, H, W) or float32 (bands, H, W), and its prediction.

    `source` is its name in messages, `name` its path below the given folder, and `link` that from
    the folder of its output files.
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
        image: uint8 (3, H, W), or float32 (bands, H, W); NaN where there is no data, which is
            ignored (255) in the mask.
        confidence, probs: Whether to return the probability of the likeliest class, of every class.
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
    for rows, columns, block in predict_blocks(
        engine, image, confidence=confidence, probs=probs, min_confidence=min_confidence
    ):
        check()
        for name, whole in vars(prediction).items():
            if whole is not None:
                whole[..., rows, columns] = getattr(block, name)
    ignore_nodata(prediction.mask, image)
    return prediction


def predict_blocks(
    engine: Engine,
    image: Tensor,
    *,
    confidence: bool = False,
    probs: bool = False,
    min_confidence: float = 0.0,
) -> Iterator[tuple[slice, slice, Prediction]]:
    """Yield (rows, columns, prediction) of an image block by block, each pixel once.

    See `compute_prediction` for the arguments and errors.
    """
    if not (confidence or probs or min_confidence > 0):
        for rows, columns, mask in engine.iterate_masks(image):
            yield rows, columns, Prediction(mask.cpu())
        return
    for rows, columns, logits in engine.iterate_blocks(image):
        best, indices = logits.max(dim=0)
        check_finite(best)
        mask, best_probs, all_probs = indices.to(torch.uint8), None, None
        if confidence or min_confidence > 0:
            likelihood = compute_confidence(logits, engine.temperature)
            mask[likelihood < min_confidence] = IGNORE_INDEX
            if confidence:
                best_probs = (255 * likelihood).round().to(torch.uint8).cpu()
        if probs:
            all_probs = (logits / engine.temperature).softmax(dim=0).to(torch.float16).cpu()
        yield rows, columns, Prediction(mask.cpu(), best_probs, all_probs)


def ignore_nodata(mask: Tensor, image: Tensor) -> Tensor:
    """Set the pixels of a mask to 255 where its image has no data, and return the mask."""
    if image.is_floating_point():
        mask.numpy()[image[0].isnan().numpy()] = IGNORE_INDEX
    return mask
