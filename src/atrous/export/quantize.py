"""INT8 quantization with NNCF, calibrated on training images."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.classes import IGNORE_INDEX
from atrous.data import SegmentationDataset
from atrous.engines.exported_engine import INPUT_NAME, Array, ExportCard
from atrous.engines.tta import MIN_PX, pad_image
from atrous.errors import AtrousError, ExportError
from atrous.evaluation import Counts
from atrous.evaluation.counts import compute_tp_fp_fn
from atrous.evaluation.metrics import compute_miou
from atrous.export.formats import silence
from atrous.extras import import_extra
from atrous.images import normalize, resize_image
from atrous.images.pixels import compute_fill, resize_mask


class CalibrationImages:
    """Training images at the input of the network, spread evenly over the split."""

    def __init__(self, dataset: SegmentationDataset, card: ExportCard, num_images: int) -> None:
        self.dataset = dataset
        self.card = card
        num_images = min(num_images, len(dataset))
        self.indices = [round(i * len(dataset) / num_images) for i in range(num_images)]

    def load(self, index: int) -> tuple[Array, Tensor]:
        """Load the input batch of one image, and its mask (H, W)."""
        sample = self.dataset.load(index)
        image, mask = sample.image, sample.mask
        model = self.card.model
        if (size_hw := model.compute_size_hw(image.shape[-2], image.shape[-1])) is not None:
            image, mask = resize_image(image, size_hw), resize_mask(mask, size_hw)
        padded_hw = (max(image.shape[-2], MIN_PX), max(image.shape[-1], MIN_PX))
        height, width = self.card.size_hw or padded_hw
        image, mask = image[:, :height, :width], mask[:height, :width]
        right, below = width - image.shape[-1], height - image.shape[-2]
        mask = F.pad(mask, (0, right, 0, below), value=IGNORE_INDEX)
        if self.card.uint8_input:
            padded = pad_image(image, (height, width), compute_fill(model.mean))
            return padded.permute(1, 2, 0)[None].contiguous().numpy(), mask
        pixels = normalize(image[None], model.mean, model.std, model.ranges)
        return F.pad(pixels, (0, right, 0, below)).contiguous().numpy(), mask


def quantize_model(
    model: Any, images: CalibrationImages, *, max_miou_drop: float | None = None
) -> Any:
    """Quantize a network to INT8.

    Args:
        model: `onnx.ModelProto` or `openvino.Model`; it is not changed.
        max_miou_drop: If given, the layers that cost most accuracy are reverted to float until
            the mIoU on these images drops by at most this.

    Raises:
        ConfigError: nncf is not installed.
        ExportError: nncf cannot quantize this network.
    """
    nncf = import_extra("nncf", "export")
    try:
        with silence():
            return _quantize(nncf, model, images, max_miou_drop)
    except AtrousError:
        raise
    except Exception as error:  # nncf has no error class for unsupported networks
        raise ExportError(
            f"nncf {nncf.__version__} cannot quantize this network ({type(error).__name__}: "
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
    """Return the mIoU of a network on some images, as nncf expects it."""
    infer = _build_infer(model)
    counts = Counts(len(images.dataset.classes))
    for index in indices:
        array, mask = images.load(index)
        output = infer(array)[0]
        prediction = output if images.card.mask_output else output.argmax(axis=0)
        counts.update(torch.from_numpy(prediction.astype(np.uint8)), mask)
    # Without labelled pixels the mIoU is NaN, which cannot be compared.
    return float(np.nan_to_num(compute_miou(compute_tp_fp_fn(counts.confusion)))), None


def _build_infer(model: Any) -> Callable[[Array], Array]:
    if hasattr(model, "SerializeToString"):
        runtime = import_extra("onnxruntime", "export")
        session = runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return lambda array: session.run(None, {INPUT_NAME: array})[0]
    return lambda array: np.asarray(model([array])[0])
