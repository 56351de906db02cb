"""A corrected copy of a data set; the original is only ever read."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from atrous.classes import IGNORE_INDEX, Classes, build_classes
from atrous.data.classes_file import FILENAME, format_classes
from atrous.data.image_file import decode_image
from atrous.data.orientation import turn_upright
from atrous.data.sample import read_indices, shorten
from atrous.data.voc import find_split_list
from atrous.doctor.doctor import CheckReport
from atrous.doctor.facts import PairFacts
from atrous.doctor.file_checks import is_mismatched, is_swapped, is_turned
from atrous.doctor.mask_checks import (
    find_color_table,
    find_palette_table,
    list_binary_masks,
    list_color_masks,
    list_disordered_masks,
)
from atrous.doctor.palettes import ColorTable
from atrous.doctor.survey import Survey
from atrous.errors import DataError

_KEPT = ("icc_profile", "transparency")
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
"""How an image that was turned is written, with as little loss as its format allows."""


@dataclass
class RepairReport:
    """What was done for the corrected copy.

    Attributes:
        folder: The copy.
        num_written: Pairs in it.
        num_converted: Masks whose values were rewritten.
        num_turned: Images that were turned upright.
        num_renamed: Pairs whose files got one stem.
        left_out: (file, reason) of what is not in the copy.
        remaining: Codes of errors and warnings that only a person can mend.
    """

    folder: Path
    num_written: int = 0
    num_converted: int = 0
    num_turned: int = 0
    num_renamed: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Plan:
    """Which masks are rewritten, and how."""

    tables: dict[int, ColorTable]
    binary: set[int]
    classes: Classes | None
    ignore_index: int


def repair_dataset(
    report: CheckReport, folder: Path | str, progress: Callable[[int, int], None] | None = None
) -> RepairReport:
    """Write a copy of a checked data set in which what can be mended is mended.

    Masks of colours become indices, 255 becomes 1 in binary masks, EXIF turns are carried out,
    partners get one name. Files that training would refuse and that cannot be mended are left
    out. All other files are copied byte for byte. The copy is whole or not there.

    Args:
        report: Of `check_dataset`.
        folder: New or empty, and not inside the data set.
        progress: Called with how many pairs are done and how many there are.

    Raises:
        DataError: The folder is in use, inside the data or cannot be written, or nothing is left.
    """
    survey, folder = report.survey, Path(folder)
    check_place(survey.root, folder)
    plan = _make_plan(survey)
    result = RepairReport(folder, remaining=_list_remaining(report))
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.absolute().parent
        ) as scratch:
            whole = Path(scratch) / "whole"
            _write_copy(survey, plan, whole, result, progress)
            if not result.num_written:
                raise DataError(_describe_nothing_left(survey, result))
            whole.rename(folder)
    except OSError as error:
        raise DataError(
            f"The corrected copy cannot be written to {folder}: {error}. Nothing was left there."
        ) from error
    return result


def _describe_nothing_left(survey: Survey, result: RepairReport) -> str:
    reasons = Counter(reason for _, reason in result.left_out).most_common()
    listed = shorten([f"{times} × {reason}" for reason, times in reasons])
    found = f"none of its {len(survey.pairs)} pairs can be taken over ({listed})"
    if not survey.pairs:
        found = "no image has a mask of its name"
    return (
        f"The corrected copy of {survey.root} would be empty: {found}. Nothing was written. Mend "
        "what the report names, and try again."
    )


def check_place(root: Path, folder: Path) -> None:
    """Raise DataError unless a corrected copy of `root` may be written to `folder`."""
    data, place = root.resolve(), folder.resolve()
    if place.is_relative_to(data) or data.is_relative_to(place):
        raise DataError(
            f"The corrected copy cannot go to {folder}: that is inside the data set {root}, or "
            "around it, and the original is never touched. Name a folder elsewhere."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder} is already there and not empty. Name a new folder for the corrected copy, "
            "or remove this one first."
        )


def _make_plan(survey: Survey) -> _Plan:
    tables: dict[int, ColorTable] = {}
    classes = None
    colored, disordered = list_color_masks(survey), list_disordered_masks(survey)
    num_plain = len(survey.index_masks) - len(disordered)
    for chosen, table in (
        (disordered, find_palette_table(survey)),
        (colored, find_color_table(survey)),
    ):
        if table is None or (num_plain and survey.given is None and not table.is_grey):
            continue  # which index a colour has among the other masks is anybody's guess
        tables |= {index: table for index, mask in chosen if mask.colors or mask.palette}
        if survey.given is None or survey.given.names != table.classes.names:
            classes = table.classes
    binary = set(list_binary_masks(survey)) - tables.keys()
    if binary and survey.given is None and classes is None:
        classes = build_classes(["background", "foreground"])
    ignore_index, can_be_saved = survey.ignore_index, 0 <= survey.ignore_index < 2**16
    if classes is not None and not num_plain:
        if not can_be_saved or ignore_index < len(classes):
            ignore_index = IGNORE_INDEX
    elif not can_be_saved:
        tables = {}
    return _Plan(tables, binary, classes, ignore_index)


def _list_remaining(report: CheckReport) -> list[str]:
    return [
        finding.code
        for finding in report.findings
        if finding.level != "note"
        and (not finding.kind.repaired or finding.data.get("table", "") is None)
    ]


def _write_copy(
    survey: Survey,
    plan: _Plan,
    whole: Path,
    result: RepairReport,
    progress: Callable[[int, int], None] | None,
) -> None:
    copy = whole / survey.folder.relative_to(survey.root)
    written: set[int] = set()
    for index, pair in enumerate(survey.pairs):
        if reason := _find_reason_to_leave_out(survey, plan, index):
            result.left_out.append((survey.relative(pair.mask_path), reason))
        else:
            _write_pair(survey, plan, index, copy, result)
            written.add(index)
        if progress is not None:
            progress(index + 1, len(survey.pairs))
    result.num_written = len(written)
    if not written:
        return
    for split, files in survey.splits.items():
        result.left_out += _list_partnerless(survey, split)
        if survey.layout == "voc":
            names = {
                survey.pairs[index].name for index in survey.members[split] if index in written
            }
            _write_split_list(copy, split, [name for name in files.names if name in names])
    _write_classes(survey, plan, copy)


def _list_partnerless(survey: Survey, split: str) -> list[tuple[str, str]]:
    files, matches = survey.splits[split], survey.matches[split]
    used = {path for pair in (files.pairs | matches).values() for path in pair}
    alone = [*files.images.values(), *files.masks.values()]
    return [
        *((survey.relative(path), "has no partner") for path in alone if path not in used),
        *((survey.relative(path), "has the stem of another") for _, path in files.same_stem),
    ]


def _find_reason_to_leave_out(survey: Survey, plan: _Plan, index: int) -> str | None:
    pair = survey.pairs[index]
    if pair.image is None or pair.mask is None:
        return "cannot be read" if pair.mask is None else "its image cannot be read"
    if is_swapped(pair):
        return "image and mask have changed places"
    if is_mismatched(pair):
        return "another size than its image"
    if pair.mask.is_jpeg:
        return "a JPEG"
    if pair.mask.values is None and index not in plan.tables:
        return "colours that no table explains"
    return None


def _write_pair(survey: Survey, plan: _Plan, index: int, copy: Path, result: RepairReport) -> None:
    pair = survey.pairs[index]
    image_path = _place(survey, copy, pair.image_path, pair.name)
    mask_path = _place(survey, copy, pair.mask_path, pair.name)
    turned = is_turned(pair)
    if turned is False:
        shutil.copyfile(pair.image_path, image_path)
    else:
        _write_upright(pair, image_path)
        result.num_turned += 1
    if turned or index in plan.tables or index in plan.binary:
        _write_mask(plan, index, pair, mask_path.with_suffix(".png"), turn=bool(turned))
        result.num_converted += index in plan.tables or index in plan.binary
    else:
        shutil.copyfile(pair.mask_path, mask_path)
    result.num_renamed += pair.image_path.stem != pair.mask_path.stem


def _place(survey: Survey, copy: Path, path: Path, name: str) -> Path:
    inside = path.relative_to(survey.folder)
    folder = inside.parts[0] if survey.layout == "voc" else inside.parent
    place = copy / folder / f"{name}{path.suffix}"  # in VOC's layout a name may have folders
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _write_upright(pair: PairFacts, path: Path) -> None:
    decoded = decode_image(pair.image_path)
    format = "JPEG" if decoded.format == "MPO" else decoded.format
    upright = decoded.image.copy()
    kept = {key: upright.info[key] for key in _KEPT if key in upright.info}
    upright.info = {}  # what else is there may state the orientation again
    upright.save(path, format, **kept, **_SAVE_OPTIONS.get(format or "", {}))


def _write_mask(plan: _Plan, index: int, pair: PairFacts, path: Path, *, turn: bool) -> None:
    table = plan.tables.get(index)
    if table is None:
        indices = read_indices(pair.mask_path)
    else:
        indices = _convert(pair, table)
        if plan.ignore_index != IGNORE_INDEX:
            kind = np.uint8 if plan.ignore_index < IGNORE_INDEX else np.uint16
            indices = np.where(indices == IGNORE_INDEX, plan.ignore_index, indices).astype(kind)
    if index in plan.binary:
        indices[indices == IGNORE_INDEX] = 1
    mask = Image.fromarray(indices)
    if turn:
        assert pair.image is not None
        mask = turn_upright(mask, pair.image.orientation)
    mask.save(path)


def _convert(pair: PairFacts, table: ColorTable) -> npt.NDArray[np.uint8]:
    """Return the index of each pixel's colour, void where the table does not have it."""
    colors = np.asarray(decode_image(pair.mask_path).image.convert("RGB")).astype(np.uint32)
    keys = colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]
    known = sorted((r << 16 | g << 8 | b, index) for (r, g, b), index in table.indices.items())
    known_keys = np.array([key for key, _ in known], np.uint32)
    values = np.array([index for _, index in known], np.uint8)
    places = np.searchsorted(known_keys, keys).clip(max=len(known_keys) - 1)
    return np.where(known_keys[places] == keys, values[places], np.uint8(IGNORE_INDEX)).astype(
        np.uint8
    )


def _write_split_list(copy: Path, split: str, names: list[str]) -> None:
    if names:
        path = find_split_list(copy, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n", encoding="utf-8", errors="surrogateescape")


def _write_classes(survey: Survey, plan: _Plan, copy: Path) -> None:
    if plan.classes is not None:
        (copy / FILENAME).write_text(
            format_classes(plan.classes, plan.ignore_index), encoding="utf-8"
        )
        return
    for folder in (survey.folder, survey.root):
        if (folder / FILENAME).is_file():
            shutil.copyfile(folder / FILENAME, copy / FILENAME)
            return
