"""Checks of single files and pairs: readable, complete, of the right size and orientation."""

from atrous.doctor.findings import Finding, FoundFile, build_findings
from atrous.doctor.survey import Survey

_NOTES = {
    "damaged-jpeg": "images",
    "constant-image": "images",
    "nearly-black": "images",
    "damaged-exif": "files",
    "pages": "files",
}


def check_unreadable(survey: Survey) -> list[Finding]:
    """Find files that cannot be read, truncated files included."""
    files = []
    for index, pair in enumerate(survey.pairs):
        for path, error in (
            (pair.image_path, pair.image_error),
            (pair.mask_path, pair.mask_error),
        ):
            if error is not None:
                reason = error.split(": ", 1)[-1].split(". ")[0].removeprefix("it is ")
                files.append(FoundFile(survey.relative(path), reason, index))
    return build_findings("unreadable", f"{len(files)} of {2 * len(survey.pairs)} files.", files)


def check_notes(survey: Survey) -> list[Finding]:
    """Collect what was noted of single files when they were read."""
    files: dict[str, list[FoundFile]] = {code: [] for code in _NOTES}
    for index, pair in enumerate(survey.pairs):
        for path, facts in ((pair.image_path, pair.image), (pair.mask_path, pair.mask)):
            for code, detail in facts.notes.items() if facts is not None else ():
                files[code].append(FoundFile(survey.relative(path), detail, index))
    totals = {"images": len(survey.pairs), "files": 2 * len(survey.pairs)}
    return [
        finding
        for code, unit in _NOTES.items()
        for finding in build_findings(
            code, f"{len(files[code])} of {totals[unit]} {unit}.", files[code]
        )
    ]


def check_swapped(survey: Survey) -> list[Finding]:
    """Find pairs in which image and mask are exchanged."""
    files = [
        survey.found_mask(index, "looks like a photograph")
        for index, pair in enumerate(survey.pairs)
        if pair.is_swapped
    ]
    return build_findings("swapped", f"{len(files)} of {len(survey.pairs)} pairs.", files)


def check_orientation(survey: Survey) -> list[Finding]:
    """Find images with an EXIF orientation whose masks are not turned, certainly or possibly."""
    files: dict[bool | None, list[FoundFile]] = {True: [], None: [], False: []}
    for index, image in survey.images:
        found = survey.found_image(index, f"EXIF orientation {image.orientation}")
        files[survey.pairs[index].is_turned].append(found)
    total = len(survey.pairs)
    summary = f"{len(files[True])} of {total} pairs: the mask was drawn on the image as stored."
    return [
        *build_findings("exif-rotation", summary, files[True]),
        *build_findings("exif-unclear", f"{len(files[None])} of {total} images.", files[None]),
    ]


def check_sizes(survey: Survey) -> list[Finding]:
    """Find masks whose size differs from their image's."""
    files = []
    for index, image in survey.images:
        mask = survey.pairs[index].mask
        if mask is None or not survey.pairs[index].is_mismatched:
            continue
        detail = f"{_format_hw(mask.hw)}, its image {_format_hw(image.hw)}"
        if mask.hw == image.hw[::-1]:
            detail += ": height and width exchanged"
        files.append(survey.found_mask(index, detail))
    return build_findings("size-mismatch", f"{len(files)} of {len(survey.pairs)} pairs.", files)


def check_sizes_for_crop(survey: Survey) -> list[Finding]:
    """Find images that are far smaller or far larger than the training crop."""
    crop = survey.crop_px
    small, large = [], []
    for index, image in survey.images:
        found = survey.found_image(index, _format_hw(image.hw))
        if 4 * min(image.hw[0], crop) * min(image.hw[1], crop) < crop * crop:
            small.append(found)
        elif min(image.hw) > 8 * crop:
            large.append(found)
    of_all = f"of {len(survey.pairs)} images, for a crop of {crop} × {crop}."
    return [
        *build_findings("small-for-crop", f"{len(small)} {of_all}", small),
        *build_findings("large-for-crop", f"{len(large)} {of_all}", large),
    ]


def _format_hw(hw: tuple[int, int]) -> str:
    return f"{hw[1]} × {hw[0]}"
