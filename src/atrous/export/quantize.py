"""INT8: ranges from training images, and layers that cost too much accuracy put back."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.classes import IGNORE_INDEX
from atrous.data import SegmentationDataset, normalize, resize_image
from atrous.data.pixels import resize_mask
from atrous.engines.exported import INPUT_NAME, Array, ExportCard
from atrous.engines.tta import MIN_PX
from atrous.errors import AtrousError, ExportError
from atrous.evaluation import Counts
from atrous.evaluation.counts import compute_tp_fp_fn
from atrous.evaluation.metrics import compute_miou
from atrous.export.formats import quiet
from atrous.extras import import_extra

Infer = Callable[[Array], Array]


class CalibrationImages:
    """Training images as the network sees them, spread evenly over the split, read when needed.

    Args:
        dataset: Training split.
        card: Says how images are sized and normalised.
        num_images: How many, or all if there are fewer.
    """

    def __init__(self, dataset: SegmentationDataset, card: ExportCard, num_images: int) -> None:
        self.dataset = dataset
        self.card = card
        num_images = min(num_images, len(dataset))
        self.indices = [round(i * len(dataset) / num_images) for i in range(num_images)]

    def load(self, index: int) -> tuple[Array, Tensor]:
        """Return the network's input, and the mask (H, W) that belongs to it."""
        sample = self.dataset.load(index)
        image, mask = sample.image, sample.mask
        model = self.card.model
        if model.size_hw is not None:
            image = resize_image(image, model.size_hw)
            mask = resize_mask(mask, model.size_hw)
        height, width = self.card.size_hw or (
            max(image.shape[-2], MIN_PX),
            max(image.shape[-1], MIN_PX),
        )
        image, mask = image[:, :height, :width], mask[:height, :width]
        right, below = width - image.shape[-1], height - image.shape[-2]
        mask = F.pad(mask, (0, right, 0, below), value=IGNORE_INDEX)
        if self.card.uint8_input:
            fill = (torch.tensor(model.mean) * 255).round().to(torch.uint8)
            whole = fill[:, None, None].repeat(1, height, width)
            whole[:, : image.shape[-2], : image.shape[-1]] = image
            return whole.permute(1, 2, 0)[None].contiguous().numpy(), mask
        pixels = normalize(image[None], model.mean, model.std)
        return F.pad(pixels, (0, right, 0, below)).contiguous().numpy(), mask


def quantize_model(
    model: Any, images: CalibrationImages, *, max_miou_drop: float | None = None
) -> Any:
    """Quantise a network to INT8.

    Args:
        model: `onnx.ModelProto` or `openvino.Model`; stays as it is.
        images: Give the range of each layer's values.
        max_miou_drop: If given, the layers whose quantisation costs most are put back to float
            until the mIoU on these images drops by no more than this.

    Raises:
        ConfigError: nncf is not installed.
        ExportError: nncf cannot quantise this network.
    """
    nncf = import_extra("nncf", "export")
    try:
        with quiet():
            return _quantize(nncf, model, images, max_miou_drop)
    except AtrousError:
        raise
    except Exception as error:  # nncf has no error of its own for what it does not know
        raise ExportError(
            f"nncf {nncf.__version__} cannot quantise this network ({type(error).__name__}: "
            f"{error}). Export to openvino-int8 instead of onnx-int8, or without --size."
        ) from error


def _quantize(nncf: Any, model: Any, images: CalibrationImages, max_miou_drop: float | None) -> Any:
    calibration = nncf.Dataset(images.indices, lambda index: {INPUT_NAME: images.load(index)[0]})
    options = {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(images.indices),
        "ignored_scope": nncf.IgnoredScope(
            types=["Resize", "Interpolate", "ArgMax", "TopK"], validate=False
        ),
    }
    if max_miou_drop is None:
        return nncf.quantize(model, calibration, **options)
    return nncf.quantize_with_accuracy_control(
        model,
        calibration,
        nncf.Dataset(images.indices),
        partial(_score, images),
        max_drop=max_miou_drop,
        drop_type=nncf.DropType.ABSOLUTE,
        **options,
    )


def _score(images: CalibrationImages, model: Any, indices: Iterable[int]) -> tuple[float, None]:
    """Return the mIoU of a network on some images, in the form that nncf asks for."""
    infer = _open(model)
    counts = Counts(len(images.dataset.classes))
    for index in indices:
        array, mask = images.load(index)
        output = infer(array)[0]
        found = output if images.card.mask_output else output.argmax(axis=0)
        counts.update(torch.from_numpy(found.astype(np.uint8)), mask)
    # NaN where no pixel is labelled, which nothing would compare with.
    return float(np.nan_to_num(compute_miou(compute_tp_fp_fn(counts.confusion)))), None


def _open(model: Any) -> Infer:
    if hasattr(model, "SerializeToString"):
        runtime = import_extra("onnxruntime", "export")
        session = runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return lambda array: session.run(None, {INPUT_NAME: array})[0]
    return lambda array: np.asarray(model([array])[0])
