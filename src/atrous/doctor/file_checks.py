"""Checks of single files and pairs: readable, complete, of the right kind, size and orientation."""

from collections.abc import Iterator

from atrous.doctor.facts import ImageFacts, MaskFacts, PairFacts
from atrous.doctor.findings import Finding, FoundFile, build_findings
from atrous.doctor.survey import Survey
from atrous.recipe import DataRecipe

_FILE_CODES = ("unreadable", "damaged-exif", "pages")
_PAIR_CODES = ("swapped", "size-mismatch", "exif-rotation")
_MASK_CODES = ("jpeg-masks", "interpolated", "all-ignored")
_IMAGE_CODES = ("damaged-jpeg", "exif-unclear", "constant-image", "nearly-black")
_CROP_CODES = ("small-for-crop", "large-for-crop")


def check_files(survey: Survey) -> list[Finding]:
    """Find everything that a single file, or an image with its mask, shows by itself."""
    num_pairs, data = len(survey.pairs), survey.data
    units = dict.fromkeys(_FILE_CODES, f"of {2 * num_pairs} files.")
    units |= dict.fromkeys(_PAIR_CODES, f"of {num_pairs} pairs.")
    units |= dict.fromkeys(_MASK_CODES, f"of {num_pairs} masks.")
    units |= dict.fromkeys(_IMAGE_CODES, f"of {num_pairs} images.")
    units |= dict.fromkeys(_CROP_CODES, f"of {num_pairs} images, for {describe_crop(data)}.")
    files: dict[str, list[FoundFile]] = {code: [] for code in units}
    for index, pair in enumerate(survey.pairs):
        for path, facts, error in (
            (pair.image_path, pair.image, pair.image_error),
            (pair.mask_path, pair.mask, pair.mask_error),
        ):
            notes = facts.notes if facts is not None else {}
            if error is not None:
                reason = error.split(": ", 1)[-1].split(". ")[0].removeprefix("it is ")
                notes = {"unreadable": reason}
            for code, detail in notes.items():
                files[code].append(FoundFile(survey.relative(path), detail, index))
        if pair.image is not None:
            for code, detail in _check_image(pair, pair.image, data):
                files[code].append(survey.found_image(index, detail))
        if pair.mask is not None:
            for code, detail in _check_mask(pair, pair.mask, survey):
                files[code].append(survey.found_mask(index, detail))
    return [
        finding
        for code, found in files.items()
        for finding in build_findings(code, f"{len(found)} {units[code]}", found)
    ]


def _check_image(pair: PairFacts, image: ImageFacts, data: DataRecipe) -> Iterator[tuple[str, str]]:
    """Yield (code, detail)."""
    if pair.is_turned is not False:
        code = "exif-rotation" if pair.is_turned else "exif-unclear"
        yield code, f"EXIF orientation {image.orientation}"
    if data.crop is None:
        return
    factor = data.long_side / max(image.hw) if data.long_side else 1
    height, width = (factor * side for side in image.hw)
    if 4 * min(height, data.crop) * min(width, data.crop) < data.crop**2:
        yield "small-for-crop", _format_hw(image.hw)
    elif min(height, width) > 8 * data.crop:
        yield "large-for-crop", _format_hw(image.hw)


def describe_crop(data: DataRecipe) -> str:
    """Return the size of the training images as text."""
    if data.crop is None:
        return f"images resized to {data.size} × {data.size}"
    resized = f" from images resized to {data.long_side} pixels" if data.long_side else ""
    return f"a crop of {data.crop} × {data.crop}{resized}"


def _check_mask(pair: PairFacts, mask: MaskFacts, survey: Survey) -> Iterator[tuple[str, str]]:
    """Yield (code, detail)."""
    if pair.is_mismatched and pair.image is not None:
        is_turned = mask.hw == pair.image.hw[::-1]
        yield (
            "size-mismatch",
            f"{_format_hw(mask.hw)}, its image {_format_hw(pair.image.hw)}"
            + (": height and width exchanged" if is_turned else ""),
        )
    if pair.is_swapped:
        yield "swapped", "looks like a photograph"
    elif mask.is_jpeg:
        yield "jpeg-masks", ""
    elif mask.is_interpolated:
        yield "interpolated", f"{mask.num_ramps} edge pixels between two values"
    elif mask.values and mask.values.keys() <= {survey.ignore_index} and not survey.binary_masks:
        yield "all-ignored", ""


def _format_hw(hw: tuple[int, int]) -> str:
    return f"{hw[1]} × {hw[0]}"
