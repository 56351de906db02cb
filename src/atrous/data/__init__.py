"""Pictures in, samples out."""

from atrous.data.dataset import SegmentationDataset, list_splits, open_dataset
from atrous.data.loader import (
    Batch,
    build_eval_loader,
    build_train_loader,
    compute_sample_order,
)
from atrous.data.mask_values import read_mask
from atrous.data.sample import Sample, read_image
from atrous.data.statistics import (
    MaskStatistics,
    check_foreground,
    check_labelled,
    compute_class_weights,
    compute_mask_statistics,
)
from atrous.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TrainTransform,
    normalize,
    resize_image,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Batch",
    "MaskStatistics",
    "Sample",
    "SegmentationDataset",
    "TrainTransform",
    "build_eval_loader",
    "build_train_loader",
    "check_foreground",
    "check_labelled",
    "compute_class_weights",
    "compute_mask_statistics",
    "compute_sample_order",
    "list_splits",
    "normalize",
    "open_dataset",
    "read_image",
    "read_mask",
    "resize_image",
]
