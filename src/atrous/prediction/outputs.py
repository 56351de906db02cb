"""The output files of a prediction."""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from atrous.classes import IGNORE_INDEX, Classes
from atrous.errors import ConfigError, did_you_mean
from atrous.extras import import_extra
from atrous.files import write_atomically
from atrous.prediction.annotations import build_coco_annotations, build_geojson
from atrous.prediction.prediction import Prediction
from atrous.prediction.render import write_mask, write_overlay


class SegmentedImage(NamedTuple):
    """An image and its prediction.

    Attributes:
        source: Name of the image.
        image: uint8 (3, H, W).
        prediction: Mask and other requested tensors.
    """

    source: str
    image: Tensor
    prediction: Prediction


Writer = Callable[..., None]
"""Writes one output of one image: `writer(file, segmented, classes)`."""


def _write_mask(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    write_mask(file, segmented.prediction.mask, classes)


def _write_overlay(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    write_overlay(file, segmented.image, segmented.prediction.mask, classes)


def _write_confidence(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    assert segmented.prediction.confidence is not None
    Image.fromarray(segmented.prediction.confidence.numpy()).save(file, format="PNG")


def _write_probs(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    assert segmented.prediction.probs is not None
    arrays = {"probs": segmented.prediction.probs.numpy(), "classes": np.array(classes.names)}
    # As numpy.savez_compressed, but several times faster at about the same size.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_rle(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    mask = segmented.prediction.mask.numpy()
    height, width = mask.shape
    annotations = build_coco_annotations(mask, classes)
    content = {"image": segmented.source, "height": height, "width": width}
    _write_json(file, content | {"annotations": annotations})


def _write_geojson(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    _write_json(file, build_geojson(segmented.prediction.mask.numpy(), classes))


def _write_json(file: BinaryIO, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
    file.write(text.encode(errors="backslashreplace"))  # names may not be UTF-8


FILES: dict[str, tuple[str, Writer]] = {
    "mask": (".png", _write_mask),
    "overlay": ("_overlay.jpg", _write_overlay),
    "confidence": ("_confidence.png", _write_confidence),
    "probs": ("_probs.npz", _write_probs),
    "rle": ("_rle.json", _write_rle),
    "geojson": (".geojson", _write_geojson),
}
"""Output kinds with one file per image: name ending and writer."""

_EXTRAS = {"rle": ("pycocotools.mask", "labels"), "geojson": ("rasterio.features", "geo")}
"""Optional module of an output kind and the extra that installs it."""

KINDS = (*FILES, "shares")
"""All output kinds; `shares` is one table for all images."""


def check_kinds(kinds: Collection[str]) -> tuple[str, ...]:
    """Return output kinds in the order of `KINDS`, each once.

    Raises:
        ConfigError: A kind is unknown, none is given, or a package for it is missing.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"There is no output '{kind}'.{did_you_mean(kind, KINDS)}")
        if kind in _EXTRAS:
            import_extra(*_EXTRAS[kind])
    if not kinds:
        raise ConfigError(f"Nothing is to be saved. Choose from: {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in kinds)


def name_files(stem: str, kinds: Collection[str]) -> list[str]:
    """Return the files of one image, relative to the output folder."""
    return [f"{stem}{ending}" for kind, (ending, _) in FILES.items() if kind in kinds]


def save_files(
    out: Path, stem: str, segmented: SegmentedImage, classes: Classes, kinds: Collection[str]
) -> list[str]:
    """Write the files of one image, each atomically, and return their names.

    Raises:
        OSError: A file cannot be written.
    """
    (out / stem).parent.mkdir(parents=True, exist_ok=True)
    names = name_files(stem, kinds)
    writers = [writer for kind, (_, writer) in FILES.items() if kind in kinds]
    for name, write in zip(names, writers, strict=True):
        write_atomically(out / name, partial(write, segmented=segmented, classes=classes))
    return names


def compute_shares(mask: Tensor, num_classes: int) -> list[float]:
    """Return the share of each class in all pixels, then that of ignored pixels."""
    counts = np.zeros(IGNORE_INDEX + 1, np.int64)
    for rows in np.array_split(mask.numpy(), max(1, mask.numel() // 2**22)):
        counts += np.bincount(rows.ravel(), minlength=IGNORE_INDEX + 1)
    shares = counts / mask.numel()
    return [*shares[:num_classes].tolist(), float(shares[IGNORE_INDEX])]


def write_shares(
    path: Path, first: Sequence[str], rows: Sequence[Sequence[Any]], classes: Classes
) -> None:
    """Write a table of shares atomically.

    Args:
        path: CSV file.
        first: Headings of the columns before the classes.
        rows: Values of these columns, then the shares.
        classes: Headings of the other columns; the last one is `ignored`.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*first, *classes.names, "ignored"])
    for row in rows:
        table.writerow([f"{value:.6f}" if isinstance(value, float) else value for value in row])
    content = text.getvalue().encode(errors="backslashreplace")
    write_atomically(path, lambda file: file.write(content))
