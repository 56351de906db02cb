"""Checks of single files and pairs: readable, complete, of the right kind, size and orientation."""

from collections.abc import Iterator

from atrous.doctor.facts import PairFacts
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
        for path, error, found in (
            (pair.image_path, pair.image_error, _check_image(pair, data)),
            (pair.mask_path, pair.mask_error, _check_mask(pair, survey)),
        ):
            if error is not None:
                reason = error.split(": ", 1)[-1].split(". ")[0].removeprefix("it is ")
                files["unreadable"].append(FoundFile(survey.relative(path), reason, index))
            for code, detail in found:
                files[code].append(FoundFile(survey.relative(path), detail, index))
    return [
        finding
        for code, found in files.items()
        for finding in build_findings(code, f"{len(found)} {units[code]}", found)
    ]


def _check_image(pair: PairFacts, data: DataRecipe) -> Iterator[tuple[str, str]]:
    """Yield (code, detail)."""
    if (image := pair.image) is None:
        return
    yield from image.notes.items()
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


def _check_mask(pair: PairFacts, survey: Survey) -> Iterator[tuple[str, str]]:
    """Yield (code, detail)."""
    if (mask := pair.mask) is None:
        return
    yield from mask.notes.items()
    if pair.is_mismatched and pair.image is not None:
        turned = ": height and width exchanged" if mask.hw == pair.image.hw[::-1] else ""
        detail = f"{_format_hw(mask.hw)}, its image {_format_hw(pair.image.hw)}{turned}"
        yield "size-mismatch", detail
    if pair.is_swapped:
        yield "swapped", "looks like a photograph"
    elif mask.is_jpeg:
        yield "jpeg-masks", ""
    elif mask.is_interpolated:
        yield "interpolated", f"{mask.num_ramps} edge pixels between two values"
    elif survey.is_ignored(mask) and not survey.binary_masks:
        yield "all-ignored", ""


def _format_hw(hw: tuple[int, int]) -> str:
    return f"{hw[1]} × {hw[0]}"
