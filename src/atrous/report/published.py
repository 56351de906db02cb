"""Published figures, and measured effects of the settings behind them.

Each number is from the table that its source names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEEPLABV3, DEEPLABV3PLUS, REPORT = "DeepLabv3", "DeepLabv3+", "deeplabv3_report"
VOC, CITYSCAPES, CAMVID = "VOC 2012", "Cityscapes", "CamVid"

V3, PLUS = "arXiv:1706.05587", "arXiv:1802.02611"
SEGNET = "arXiv:1511.00561"


@dataclass(frozen=True)
class Setup:
    """Conditions of a training and its evaluation; None or empty if not stated.

    Attributes:
        init: Initial weights: `none`, `ImageNet`, `COCO`, …
        crop: Side of the training crops in pixels, or the size of the images as text.
        strides: Output stride in training and in evaluation.
        norm: `trained`, `frozen` (batch norm) or `group`.
        tta: Any of `scales`, `flip`, `windows` and `samples`.
    """

    backbone: str = ""
    num_train: int | None = None
    num_scored: int | None = None
    init: str = ""
    crop: int | str | None = None
    batch_size: int | None = None
    strides: tuple[int, int] | None = None
    norm: str = ""
    multi_grid: tuple[int, ...] | None = None
    decoder_channels: int | None = None
    tta: frozenset[str] | None = None
    class_weights: str = ""
    optimization: str = ""
    num_steps: int | None = None


@dataclass(frozen=True)
class Published:
    """A published mIoU (0 to 1) of a system on a split, and its conditions."""

    system: str
    data: str
    split: str
    miou: float
    source: str
    setup: Setup
    remark: str = ""


@dataclass(frozen=True)
class Measured:
    """mIoU of systems by the value of one setting, all else equal.

    The remark names conditions that differ from the full system.
    """

    systems: Mapping[str, Mapping[Any, float]]
    source: str
    remark: str = ""


_NO_TTA: frozenset[str] = frozenset()
_SCALES, _BOTH = frozenset({"scales"}), frozenset({"scales", "flip"})

_V3_SETUP: dict[str, Any] = {
    "backbone": "ResNet-101", "init": "ImageNet", "batch_size": 16, "strides": (16, 16),
    "norm": "trained", "tta": _NO_TTA, "class_weights": "none",
}  # fmt: skip
_VOC_SETUP: dict[str, Any] = {
    **_V3_SETUP, "num_train": 10582, "num_scored": 1449, "crop": 513,
    "optimization": "poly from 0.007", "num_steps": 30000,
}  # fmt: skip
_SEGNET_SETUP: dict[str, Any] = {
    "num_train": 367, "num_scored": 233, "crop": "whole, 480×360", "tta": _NO_TTA,
    "batch_size": 12, "class_weights": "median_frequency",
    "optimization": "SGD, constant at 0.1", "init": "none",
}  # fmt: skip

PUBLISHED = (
    Published(
        DEEPLABV3, VOC, "val", 0.7721, f"{V3}, table 5", Setup(**_VOC_SETUP, multi_grid=(1, 2, 4))
    ),
    Published(
        DEEPLABV3PLUS, VOC, "val", 0.7885, f"{PLUS}, table 3",
        Setup(**_VOC_SETUP, decoder_channels=256),
    ),
    Published(
        DEEPLABV3, CITYSCAPES, "val", 0.7723, f"{V3}, table 12",
        Setup(
            **_V3_SETUP, multi_grid=(1, 2, 4), num_train=2975, num_scored=500, crop=769,
            optimization="poly from 0.007", num_steps=90000,
        ),
    ),
    Published(
        REPORT, VOC, "val", 0.548, "the student report",
        Setup(
            backbone="ResNet-50", batch_size=4, crop="whole, resized to 256×256",
            class_weights="none",
        ),
        "The report does not give the learning rate or the initial weights.",
    ),
    Published(
        "SegNet-Basic", CAMVID, "test", 0.477, f"{SEGNET}, table 1", Setup(**_SEGNET_SETUP),
        "The smallest network of that paper, trained on CamVid alone. SegNet itself reaches 0.601 "
        "with 3433 images of road scenes (table 3).",
    ),
)  # fmt: skip

BATCH_SIZE = Measured({DEEPLABV3: {4: 0.6443, 8: 0.7576, 12: 0.7649, 16: 0.7721}}, f"{V3}, table 9")
CROP = Measured({DEEPLABV3: {321: 0.6722, 513: 0.7721}}, f"{V3}, table 8")
NORM = Measured({DEEPLABV3: {"frozen": 0.7595, "trained": 0.7721}}, f"{V3}, table 8")
STRIDES = {
    DEEPLABV3: Measured(
        {
            DEEPLABV3: {
                (8, 8): 0.7562, (8, 16): 0.7445, (16, 8): 0.7851, (16, 16): 0.7721,
                (32, 8): 0.7575, (32, 16): 0.7590, (32, 32): 0.7543,
            }
        },
        f"{V3}, table 10; 32 / 32: {PLUS}, table 3",
        "with the largest batch that fits: 6 at training stride 8, 16 at 16, 24 at 32",
    ),
    DEEPLABV3PLUS: Measured(
        {
            DEEPLABV3PLUS: {
                (16, 8): 0.7935, (16, 16): 0.7885, (32, 8): 0.7792, (32, 16): 0.7780,
                (32, 32): 0.7737,
            }
        },
        f"{PLUS}, table 3",
    ),
}  # fmt: skip
"""By system; output stride in training and in evaluation."""
MULTI_GRID = Measured(
    {DEEPLABV3: {(1, 1, 1): 0.7536, (1, 2, 1): 0.7593, (1, 2, 4): 0.7658}},
    f"{V3}, table 5", "without image pooling",
)  # fmt: skip
BACKBONE = Measured(
    {DEEPLABV3: {"ResNet-50": 0.7388, "ResNet-101": 0.7576}},
    f"{V3}, table 2", "in the cascaded model, up to block7",
)  # fmt: skip
DECODER_CHANNELS = Measured(
    {DEEPLABV3PLUS: {128: 0.7725, 256: 0.7821}}, f"{PLUS}, table 2", "with one 3×3 convolution"
)
INIT = Measured(
    {DEEPLABV3: {"ImageNet": 0.7977, "COCO": 0.8270}},
    f"{V3}, table 6", "at evaluation stride 8 with scales and flip",
)  # fmt: skip
CLASS_WEIGHTS = Measured(
    {"SegNet-Basic": {"none": 0.463, "median_frequency": 0.477}}, f"{SEGNET}, table 1"
)
VIEWS = {
    (system, stride): Measured(
        {system: dict(zip((_NO_TTA, _SCALES, _BOTH), mious, strict=True))},
        source,
        f"at evaluation stride {stride}",
    )
    for system, stride, mious, source in (
        (DEEPLABV3, 8, (0.7851, 0.7945, 0.7977), f"{V3}, table 6"),
        (DEEPLABV3PLUS, 16, (0.7885, 0.8009, 0.8022), f"{PLUS}, table 3"),
        (DEEPLABV3PLUS, 8, (0.7935, 0.8043, 0.8057), f"{PLUS}, table 3"),
    )
}
"""By system and output stride of the evaluation; six scales from 0.5 to 1.75."""

RELATED = {DEEPLABV3PLUS: (DEEPLABV3PLUS, DEEPLABV3)}
"""Systems whose measurements apply to a system, the nearest first.

DeepLabv3+ is trained with the protocol of DeepLabv3 (arXiv:1802.02611, section 4).
"""
