"""Checks of the files themselves: are they there, can they be read, do they go together."""

from atrous.doctor.facts import PairFacts
from atrous.doctor.findings import Finding, FoundFile, build_findings
from atrous.doctor.survey import Survey

_FEW_VALUES = 64
_MANY_VALUES = 100
_CLEARLY = 1.5
"""Difference of two fit scores from which the better one is believed."""


def check_unreadable(survey: Survey) -> list[Finding]:
    """Find files that no reader can open, among them those that end too early."""
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


def check_damaged_jpegs(survey: Survey) -> list[Finding]:
    """Find JPEG images that decode in spite of damaged data."""
    files = [
        survey.found_image(index, pair.image.damage)
        for index, pair in enumerate(survey.pairs)
        if pair.image is not None and pair.image.damage is not None
    ]
    return build_findings("damaged-jpeg", f"{len(files)} of {len(survey.pairs)} images.", files)


def check_notes(survey: Survey) -> list[Finding]:
    """Find files that can be read, though not in whole."""
    files: dict[str, list[FoundFile]] = {"damaged-exif": [], "pages": []}
    for index, pair in enumerate(survey.pairs):
        for path, facts in ((pair.image_path, pair.image), (pair.mask_path, pair.mask)):
            for code in facts.notes if facts is not None else ():
                files[code].append(FoundFile(survey.relative(path), pair=index))
    total = 2 * len(survey.pairs)
    return [
        finding
        for code, found in files.items()
        for finding in build_findings(code, f"{len(found)} of {total} files.", found)
    ]


def is_swapped(pair: PairFacts) -> bool:
    """Tell whether the mask looks like a photograph, and the image like a mask."""
    image, mask = pair.image, pair.mask
    if image is None or mask is None or image.num_values is None:
        return False
    many = mask.colors is None if mask.values is None else len(mask.values) > _MANY_VALUES
    return many and image.num_values <= _FEW_VALUES


def check_swapped(survey: Survey) -> list[Finding]:
    """Find images and masks that have changed places."""
    files = [
        survey.found_mask(index, "looks like a photograph")
        for index, pair in enumerate(survey.pairs)
        if is_swapped(pair)
    ]
    return build_findings("swapped", f"{len(files)} of {len(survey.pairs)} pairs.", files)


def is_turned(pair: PairFacts) -> bool | None:
    """Tell whether a mask belongs to the image as stored, not as EXIF turns it; None: unclear.

    Where the size does not tell, as for half turns and squares, the edges are asked.
    """
    image, mask = pair.image, pair.mask
    if image is None or mask is None or image.orientation == 1:
        return False
    height, width = image.hw
    if image.orientation >= 5 and height != width:
        return mask.hw == (width, height)
    if mask.hw != image.hw:
        return False
    if pair.fit is None or pair.fit.stored is None:
        return None
    difference = pair.fit.stored - pair.fit.own
    return None if abs(difference) < _CLEARLY else difference > 0


def check_orientation(survey: Survey) -> list[Finding]:
    """Find images that EXIF turns while their masks stay, for certain or perhaps."""
    files: dict[bool | None, list[FoundFile]] = {True: [], None: [], False: []}
    for index, pair in enumerate(survey.pairs):
        detail = f"EXIF orientation {pair.image.orientation}" if pair.image else ""
        files[is_turned(pair)].append(survey.found_image(index, detail))
    total = len(survey.pairs)
    summary = f"{len(files[True])} of {total} pairs: the mask was drawn on the image as stored."
    return [
        *build_findings("exif-rotation", summary, files[True]),
        *build_findings("exif-unclear", f"{len(files[None])} of {total} images.", files[None]),
    ]


def is_mismatched(pair: PairFacts) -> bool:
    """Tell whether image and mask differ in size, and EXIF does not explain it."""
    if pair.image is None or pair.mask is None or is_turned(pair):
        return False
    return pair.image.hw != pair.mask.hw


def check_sizes(survey: Survey) -> list[Finding]:
    """Find masks of another size than their image."""
    files = []
    for index, pair in enumerate(survey.pairs):
        if is_mismatched(pair):
            assert pair.image is not None
            assert pair.mask is not None
            detail = f"{_format_hw(pair.mask.hw)}, its image {_format_hw(pair.image.hw)}"
            if pair.mask.hw == pair.image.hw[::-1]:
                detail += ": height and width exchanged"
            files.append(survey.found_mask(index, detail))
    return build_findings("size-mismatch", f"{len(files)} of {len(survey.pairs)} pairs.", files)


def _format_hw(hw: tuple[int, int]) -> str:
    return f"{hw[1]} × {hw[0]}"
