"""The output files of a prediction."""

import csv
import io
import zipfile
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from atrous.classes import IGNORE_INDEX, Classes
from atrous.errors import ConfigError, did_you_mean
from atrous.extras import import_extra
from atrous.files import write_atomically
from atrous.images.pixels import convert_to_rgb
from atrous.prediction import labelling
from atrous.prediction.annotations import build_geojson, write_json, write_rle
from atrous.prediction.manifest import FinishedImage
from atrous.prediction.prediction import SegmentedImage
from atrous.prediction.render import write_mask, write_overlay

Writer = Callable[..., None]
"""Writes one output of one image: `writer(file, segmented, classes)`."""

JobWriter = Callable[[BinaryIO, Sequence[FinishedImage], Classes], None]
"""Writes one output of all images: `writer(file, images, classes)`."""


def _write_mask(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    write_mask(file, segmented.prediction.mask, classes)


def _write_overlay(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    image = convert_to_rgb(segmented.image, segmented.ranges)
    write_overlay(file, image, segmented.prediction.mask, classes)


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
    write_rle(file, segmented.source, segmented.prediction.mask.numpy(), classes)


def _write_geojson(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    write_json(file, build_geojson(segmented.prediction.mask.numpy(), classes))


def _write_shares(file: BinaryIO, images: Sequence[FinishedImage], classes: Classes) -> None:
    rows = [[one.source, of.height, of.width, *of.shares] for one, of, _ in images]
    write_shares(file, ("image", "height", "width"), rows, classes)


FILES: dict[str, tuple[str, Writer]] = {
    "mask": ("{}.png", _write_mask),
    "overlay": ("{}_overlay.jpg", _write_overlay),
    "confidence": ("{}_confidence.png", _write_confidence),
    "probs": ("{}_probs.npz", _write_probs),
    "rle": ("{}_rle.json", _write_rle),
    "geojson": ("{}.geojson", _write_geojson),
    "coco": (".parts/{}.coco", labelling.write_coco_part),
    "cvat": (".parts/{}.cvat", labelling.write_cvat_part),
    "labelme": ("{}.json", labelling.write_labelme),
    "yolo": ("labels/{}.txt", labelling.write_yolo),
}
"""Output kinds with one file per image: its name and writer."""

JOB_FILES: dict[str, tuple[str, JobWriter]] = {
    "coco": ("predictions.json", labelling.write_coco),
    "cvat": ("predictions.xml", labelling.write_cvat),
    "labelme": ("labels.txt", labelling.write_labelme_names),
    "yolo": ("data.yaml", labelling.write_yolo_names),
    "shares": ("shares.csv", _write_shares),
}
"""Output kinds with one file for all images: its name and writer."""

LABEL_KINDS = {"coco", "cvat", "labelme", "yolo"}
"""Output kinds for annotation tools."""

_EXTRAS = {"rle": ("pycocotools.mask", "labels")} | dict.fromkeys(
    ("geojson", *LABEL_KINDS), ("rasterio.features", "geo")
)
"""Optional module of an output kind and the extra that installs it."""

KINDS = (*FILES, "shares")


def check_kinds(kinds: Collection[str]) -> tuple[str, ...]:
    """Return output kinds in the order of `KINDS`, each once; raises ConfigError."""
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"There is no output '{kind}'.{did_you_mean(kind, KINDS)}")
        if kind in _EXTRAS:
            import_extra(*_EXTRAS[kind])
    if not kinds:
        raise ConfigError(f"Nothing is to be saved. Choose from: {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in kinds)


def name_files(stem: str, kinds: Collection[str], *, is_geo: bool = False) -> list[str]:
    """Return the files of one image, relative to the output folder; of a GeoTIFF with `is_geo`."""
    names = [name for kind, (name, _) in FILES.items() if kind in kinds]
    return [(name.replace(".png", ".tif") if is_geo else name).format(stem) for name in names]


def save_files(
    out: Path, stem: str, segmented: SegmentedImage, classes: Classes, kinds: Collection[str]
) -> list[str]:
    """Write the files of one image, each atomically, and return their names."""
    names = name_files(stem, kinds)
    writers = [writer for kind, (_, writer) in FILES.items() if kind in kinds]
    for name, write in zip(names, writers, strict=True):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
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
    file: BinaryIO, first: Sequence[str], rows: Sequence[Sequence[Any]], classes: Classes
) -> None:
    """Write a CSV table: columns with the headings `first`, then the shares."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*first, *classes.names, "ignored"])
    for row in rows:
        table.writerow([f"{value:.6f}" if isinstance(value, float) else value for value in row])
    file.write(text.getvalue().encode(errors="backslashreplace"))
