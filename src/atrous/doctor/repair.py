"""A corrected copy of a dataset; the original is only read."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atrous.classes import IGNORE_INDEX
from atrous.data.classes_file import FILENAME, format_bands, format_classes
from atrous.data.layouts import find_classes_file
from atrous.data.mask_values import renumber
from atrous.data.new_folder import replace_folder
from atrous.data.palettes import pack_color
from atrous.data.shards import has_shards
from atrous.data.voc import find_split_list
from atrous.doctor.doctor import CheckReport
from atrous.doctor.facts import PairFacts
from atrous.doctor.mask_checks import ask_for_meaning, find_color_table, list_colored_masks
from atrous.doctor.survey import Survey
from atrous.doctor.value_tables import find_value_table
from atrous.errors import DataError, shorten
from atrous.images.arrays import open_array
from atrous.images.image_file import decode_image
from atrous.images.orientation import turn_upright
from atrous.images.reading import read_colors, read_indices

_KEPT = ("icc_profile", "transparency")
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
"""Options for saving a turned image with as little loss as its format allows."""


@dataclass
class RepairReport:
    """Result of `repair_dataset`.

    Attributes:
        num_converted: Number of masks whose values were rewritten.
        num_turned: Number of images that were turned upright.
        num_renamed: Number of pairs whose files were given the same stem.
        left_out: (file, reason) of the files that are not in the copy.
        remaining: Codes of the errors and warnings that were not repaired.
    """

    folder: Path
    num_written: int = 0
    num_converted: int = 0
    num_turned: int = 0
    num_renamed: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)


def repair_dataset(
    report: CheckReport, folder: Path | str, progress: Callable[[int, int], None] | None = None
) -> RepairReport:
    """Write a copy of a checked dataset to a new folder, with all findings repaired that can be.

    Masks of colours become indices, class numbers with gaps or counted from 1 are renumbered, 255
    becomes 1 in binary masks, EXIF orientations are applied, and matching files get the same stem.
    Files that training would refuse and that cannot be repaired are left out; all others are
    copied byte for byte. On an error, no copy is left.

    Raises:
        DataError: The folder is not empty, overlaps the dataset or cannot be written, the copy
            would be empty, or it is unknown what the colours of masks mean.
    """
    survey, folder = report.survey, Path(folder)
    check_place(survey.root, folder)
    if question := ask_for_meaning(survey):
        raise DataError(f"No corrected copy was written to {folder}: {question}")
    remaining = [
        finding.code
        for finding in report.findings
        if finding.level != "note"
        and (not finding.kind.repaired or finding.data.get("table", "") is None)
    ]
    result = RepairReport(folder, remaining=remaining)
    problem = f"The corrected copy cannot be written to {folder}"
    with replace_folder(folder, problem, "Nothing was left there.") as whole:
        _Writer(survey, whole, result).write(progress)
        if not result.num_written:
            raise DataError(_describe_empty(survey, result))
    return result


def check_place(root: Path | str, folder: Path) -> None:
    """Raise DataError unless a corrected copy of `root` may be written to `folder`."""
    if has_shards(root):
        raise DataError(
            f"{root} is in shards, which are not corrected: correct the folder that they were "
            "written from, and write them again with `atrous data shard`."
        )
    data, place = Path(root).resolve(), folder.resolve()
    if place.is_relative_to(data) or data.is_relative_to(place):
        raise DataError(
            f"The corrected copy cannot be written to {folder}: that is inside the dataset {root}, "
            "or around it, and the original is never changed. Name a folder elsewhere."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder} already exists and is not empty. Name a new folder for the corrected copy, "
            "or remove this one first."
        )


def _describe_empty(survey: Survey, result: RepairReport) -> str:
    reasons = Counter(reason for _, reason in result.left_out).most_common()
    listed = shorten([f"{times} × {reason}" for reason, times in reasons])
    found = f"none of its {len(survey.pairs)} pairs can be repaired ({listed})"
    if not survey.pairs:
        found = "no image has a mask of its name"
    return (
        f"The corrected copy of {survey.root} would be empty: {found}. Nothing was written. "
        "Correct what the report names, and try again."
    )


class _Writer:
    """Writes the corrected copy of a dataset to a folder, and counts in `result`."""

    def __init__(self, survey: Survey, folder: Path, result: RepairReport) -> None:
        assert isinstance(survey.folder, Path)  # as `check_place` has found
        self._survey, self._folder = survey, survey.folder
        self._copy = folder / survey.folder.relative_to(survey.root)
        self._result = result
        colors, values = find_color_table(survey), find_value_table(survey)
        self._colored = list_colored_masks(survey).keys() if colors else set()
        self._colors = {pack_color(c): i for c, i in colors.indices.items()} if colors else {}
        has_plain = any(index not in self._colored for index, _ in survey.index_masks)
        is_other = values and colors and colors.classes != values.classes
        if values is None or values.code == "color-masks" or is_other or not has_plain:
            values = None
        self._values = values.indices if values else {}  # of the masks of indices
        table = colors or values
        classes = survey.given if table is None else table.classes
        self._ignore_index = survey.ignore_index
        can_be_saved = 0 <= survey.ignore_index < 2**16
        if classes and table and (self._values or not has_plain):
            if not can_be_saved or survey.ignore_index < len(classes):
                self._ignore_index = IGNORE_INDEX
        elif not can_be_saved:
            self._colored = set()
        is_new = classes != survey.given or self._ignore_index != survey.ignore_index
        self._classes = classes if is_new or survey.names else None  # written to classes.toml

    def write(self, progress: Callable[[int, int], None] | None) -> None:
        survey, result = self._survey, self._result
        written: set[int] = set()
        for index, pair in enumerate(survey.pairs):
            if reason := self._find_reason_to_leave_out(index, pair):
                result.left_out.append((survey.relative(pair.mask_path), reason))
            else:
                self._write_pair(index, pair)
                written.add(index)
            if progress is not None:
                progress(index + 1, len(survey.pairs))
        result.num_written = len(written)
        if not written:
            return
        for split, files in survey.splits.items():
            result.left_out += _list_without_partner(survey, split)
            if survey.layout == "voc":
                names = {survey.pairs[i].name for i in survey.members[split] if i in written}
                self._write_split_list(split, [name for name in files.names if name in names])
        self._write_classes()

    def _find_reason_to_leave_out(self, index: int, pair: PairFacts) -> str | None:
        if pair.image is None or pair.mask is None:
            return "cannot be read" if pair.mask is None else "its image cannot be read"
        if pair.is_swapped:
            return "image and mask are exchanged"
        if pair.is_mismatched:
            return "another size than its image"
        if pair.mask.is_jpeg:
            return "a JPEG"
        if pair.mask.values is None and index not in self._colored:
            return "colours that no table explains"
        values = {} if index in self._colored else pair.mask.values or {}
        if self._values and values.keys() - self._values.keys():
            return "values that are no class"
        return None

    def _write_pair(self, index: int, pair: PairFacts) -> None:
        result, image, mask = self._result, pair.image_path, pair.mask_path
        assert isinstance(image, Path)  # as `check_place` has found
        assert isinstance(mask, Path)
        image_path = self._make_path(image, pair.name)
        mask_path = self._make_path(mask, pair.name)
        if pair.is_turned is False:
            shutil.copyfile(image, image_path)
        else:
            _write_upright(image, image_path)
            result.num_turned += 1
        is_converted = index in self._colored or any(
            self._renumber(value) != value for value in (pair.mask and pair.mask.values) or {}
        )
        if pair.is_turned or is_converted:
            self._write_mask(index, pair, mask_path.with_suffix(".png"))
            result.num_converted += is_converted
        else:
            shutil.copyfile(mask, mask_path)
        result.num_renamed += image.stem != mask.stem

    def _make_path(self, path: Path, name: str) -> Path:
        inside = path.relative_to(self._folder)
        folder = inside.parts[0] if self._survey.layout == "voc" else inside.parent
        target = self._copy / folder / f"{name}{path.suffix}"  # VOC names may have folders
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _renumber(self, value: int) -> int:
        """Return the new value of a value in the masks of indices."""
        index = self._values.get(value, value)
        return self._ignore_index if self._values and index == IGNORE_INDEX else index

    def _write_mask(self, index: int, pair: PairFacts, path: Path) -> None:
        if index in self._colored:
            indices = renumber(read_colors(decode_image(pair.mask_path).image), self._colors)
        else:
            indices = read_indices(pair.mask_path)
            if self._values:
                indices = renumber(indices, self._values)
        if self._ignore_index != IGNORE_INDEX and (self._values or index in self._colored):
            kind = np.uint8 if self._ignore_index < IGNORE_INDEX else np.uint16
            indices = np.where(indices == IGNORE_INDEX, self._ignore_index, indices).astype(kind)
        mask = Image.fromarray(indices)
        if pair.is_turned and pair.image is not None:
            mask = turn_upright(mask, pair.image.orientation)
        mask.save(path)

    def _write_split_list(self, split: str, names: list[str]) -> None:
        if names:
            path = find_split_list(self._copy, split)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(names) + "\n", encoding="utf-8", errors="surrogateescape")

    def _write_classes(self) -> None:
        path = self._copy / FILENAME
        if self._classes is not None:
            bands, ranges = self._survey.bands, self._survey.ranges
            text = format_classes(self._classes, self._ignore_index) + format_bands(bands, ranges)
            path.write_text(text, encoding="utf-8")
        elif given := find_classes_file(self._survey.root, self._folder):
            shutil.copyfile(given, path)


def _list_without_partner(survey: Survey, split: str) -> list[tuple[str, str]]:
    files, matches = survey.splits[split], survey.matches[split]
    used = {path for pair in (files.pairs | matches).values() for path in pair}
    paths = [*files.images.values(), *files.masks.values()]
    return [
        *((survey.relative(path), "has no partner") for path in paths if path not in used),
        *((survey.relative(path), "has the stem of another") for _, path in files.same_stem),
    ]


def _write_upright(source: Path, path: Path) -> None:
    if opened := open_array(source, str(source)):
        import tifffile

        planes = np.ascontiguousarray(np.moveaxis(opened.read(), -1, 0))
        target, layout = path.with_suffix(".tif"), "separate" if len(planes) > 1 else None
        planes = planes if layout else planes[0]
        tifffile.imwrite(target, planes, photometric="minisblack", planarconfig=layout)
        return
    decoded = decode_image(source)
    format = "JPEG" if decoded.format == "MPO" else decoded.format
    upright = decoded.image.copy()
    kept = {key: upright.info[key] for key in _KEPT if key in upright.info}
    upright.info = {}  # other metadata may repeat the orientation
    upright.save(path, format, **kept, **_SAVE_OPTIONS.get(format or "", {}))
