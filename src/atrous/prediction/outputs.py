"""The files that a prediction can be saved as."""

import csv
import io
import json
import zipfile
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

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
    """An image and the answer for it.

    Attributes:
        source: What the image is called.
        image: uint8 (3, H, W).
        prediction: The answer.
    """

    source: str
    image: Tensor
    prediction: Prediction


class Writer(Protocol):
    """Writes one kind of output of one image."""

    def __call__(self, file: BinaryIO, done: SegmentedImage, classes: Classes) -> None:
        """Write it."""
        ...


def _write_mask(file: BinaryIO, done: SegmentedImage, classes: Classes) -> None:
    write_mask(file, done.prediction.mask, classes)


def _write_overlay(file: BinaryIO, done: SegmentedImage, classes: Classes) -> None:
    write_overlay(file, done.image, done.prediction.mask, classes)


def _write_confidence(file: BinaryIO, done: SegmentedImage, classes: Classes) -> None:
    assert done.prediction.confidence is not None
    Image.fromarray(done.prediction.confidence.numpy()).save(file, format="PNG")


def _write_probs(file: BinaryIO, done: SegmentedImage, classes: Classes) -> None:
    assert done.prediction.probs is not None
    arrays = {"probs": done.prediction.probs.numpy(), "classes": np.array(classes.names)}
    # As numpy.savez_compressed, but several times faster at about the same size.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_rle(file: BinaryIO, done: SegmentedImage, classes: Classes) -> None:
    mask = done.prediction.mask.numpy()
    annotations = build_coco_annotations(mask, classes)
    _write_json(
        file,
        {
            "image": done.source,
            "height": mask.shape[0],
            "width": mask.shape[1],
            "annotations": annotations,
        },
    )


def _write_geojson(file: BinaryIO, done: SegmentedImage, classes: Classes) -> None:
    _write_json(file, build_geojson(done.prediction.mask.numpy(), classes))


def _write_json(file: BinaryIO, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
    file.write(text.encode(errors="backslashreplace"))  # of names that are no UTF-8


FILES: dict[str, tuple[str, Writer]] = {
    "mask": (".png", _write_mask),
    "overlay": ("_overlay.jpg", _write_overlay),
    "confidence": ("_confidence.png", _write_confidence),
    "probs": ("_probs.npz", _write_probs),
    "rle": ("_rle.json", _write_rle),
    "geojson": (".geojson", _write_geojson),
}
"""The outputs that are a file per image: the end of its name, and what writes it."""

_EXTRAS = {"rle": ("pycocotools.mask", "labels"), "geojson": ("rasterio.features", "geo")}
"""The module that an output needs, and the extra that brings it."""

KINDS = (*FILES, "shares")
"""All outputs; `shares` is one table for all images."""


def check_kinds(kinds: Collection[str]) -> tuple[str, ...]:
    """Return the outputs in the order of `KINDS`, each once.

    Raises:
        ConfigError: There is no such output, or none at all, or a package for it is missing.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"There is no output '{kind}'.{did_you_mean(kind, KINDS)}")
    for kind, (module, extra) in _EXTRAS.items():
        if kind in kinds:
            import_extra(module, extra)
    if not kinds:
        raise ConfigError(f"Nothing is to be saved. Choose from: {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in kinds)


def name_files(stem: str, kinds: Collection[str]) -> list[str]:
    """Return the files of one image, relative to the output folder."""
    return [f"{stem}{ending}" for kind, (ending, _) in FILES.items() if kind in kinds]


def save_files(
    out: Path, stem: str, done: SegmentedImage, classes: Classes, kinds: Collection[str]
) -> list[str]:
    """Write the files of one image, each whole or not at all, and return what they are called.

    Raises:
        OSError: A file cannot be written.
    """
    (out / stem).parent.mkdir(parents=True, exist_ok=True)
    names = name_files(stem, kinds)
    writers = [writer for kind, (_, writer) in FILES.items() if kind in kinds]
    for name, writer in zip(names, writers, strict=True):
        write_atomically(out / name, partial(writer, done=done, classes=classes))
    return names


def compute_shares(mask: Tensor, num_classes: int) -> list[float]:
    """Return the share of each class among all pixels, then that of void."""
    counts = np.zeros(IGNORE_INDEX + 1, np.int64)
    for rows in np.array_split(mask.numpy(), max(1, mask.numel() // 2**22)):
        counts += np.bincount(rows.ravel(), minlength=IGNORE_INDEX + 1)
    shares = counts / mask.numel()
    return [*shares[:num_classes].tolist(), float(shares[IGNORE_INDEX])]


def write_shares(
    path: Path, first: Sequence[str], rows: Sequence[Sequence[Any]], classes: Classes
) -> None:
    """Write a table of shares, whole or not at all.

    Args:
        path: A CSV file.
        first: Headings of the columns before the classes.
        rows: Values of those columns, then the shares.
        classes: Name the other columns, `void` the last.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*first, *classes.names, "void"])
    for row in rows:
        table.writerow([f"{value:.6f}" if isinstance(value, float) else value for value in row])
    write_atomically(
        path, lambda file: file.write(text.getvalue().encode(errors="backslashreplace"))
    )
