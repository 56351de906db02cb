"""Datasets, samples, transforms and loaders. The names are imported when first used."""

from typing import TYPE_CHECKING

from atrous.lazy import import_lazily

if TYPE_CHECKING:
    from atrous.data.dataset import Sample, SegmentationDataset, open_dataset
    from atrous.data.layouts import list_splits
    from atrous.data.loader import (
        Batch,
        build_eval_loader,
        build_train_loader,
        compute_sample_order,
    )
    from atrous.data.mask_values import read_mask
    from atrous.data.statistics import (
        MaskStatistics,
        check_foreground,
        check_labelled,
        compute_class_weights,
        compute_mask_statistics,
    )
    from atrous.data.transforms import TrainTransform

__all__ = [
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
    "open_dataset",
    "read_mask",
]

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "atrous.data.dataset": ["Sample", "SegmentationDataset", "open_dataset"],
        "atrous.data.layouts": ["list_splits"],
        "atrous.data.loader": [
            "Batch",
            "build_eval_loader",
            "build_train_loader",
            "compute_sample_order",
        ],
        "atrous.data.mask_values": ["read_mask"],
        "atrous.data.statistics": [
            "MaskStatistics",
            "check_foreground",
            "check_labelled",
            "compute_class_weights",
            "compute_mask_statistics",
        ],
        "atrous.data.transforms": ["TrainTransform"],
    },
)
