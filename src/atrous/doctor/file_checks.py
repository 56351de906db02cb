"""Checks of the files themselves: are they there, can they be read, do they go together."""

from atrous.data.sample import shorten
from atrous.doctor.facts import PairFacts
from atrous.doctor.findings import Finding, FoundFile, build_finding
from atrous.doctor.survey import Survey

_FEW_VALUES = 64
_MANY_VALUES = 100
_CLEARLY = 1.5
"""Difference of two fit scores from which the better one is believed."""


def check_unpaired(survey: Survey) -> list[Finding]:
    """Find pictures without a mask and masks without a picture."""
    files = []
    parts = []
    for split, found in survey.splits.items():
        if _is_unlabelled(survey, split):
            continue
        matches = {path: pair for pair in survey.matches[split].values() for path in pair}
        for names, what, folder, has in (
            (found.without_mask, "mask", found.mask_folder, found.images),
            (found.without_image, "picture", found.image_folder, found.masks),
        ):
            if names:
                parts.append(f"{len(names)} of '{split}' without a {what}")
            for name in names:
                path = has.get(name, folder / name)
                detail = f"no {what} of this name"
                if path in matches:
                    other = matches[path][what == "mask"]
                    detail += f"; {survey.relative(other)} seems to be it"
                files.append(FoundFile(survey.relative(path), detail))
    if not files:
        return []
    num_matched = sum(map(len, survey.matches.values()))
    return [build_finding("unpaired", "; ".join(parts) + ".", files, num_matched=num_matched)]


def check_unlabelled(survey: Survey) -> list[Finding]:
    """Find test splits that have no mask at all."""
    splits = [split for split in survey.splits if _is_unlabelled(survey, split)]
    if not splits:
        return []
    total = sum(len(survey.splits[split].names) for split in splits)
    return [build_finding("unlabelled-split", f"{_quote(splits)}: {total} pictures.")]


def check_same_stem(survey: Survey) -> list[Finding]:
    """Find files of one folder that share a stem."""
    files = [
        FoundFile(survey.relative(second), f"beside {first.name}")
        for found in survey.splits.values()
        for first, second in found.same_stem
    ]
    if not files:
        return []
    return [build_finding("same-stem", f"Files with the stem of another: {len(files)}.", files)]


def check_listed_twice(survey: Survey) -> list[Finding]:
    """Find names that a split list has more than once."""
    twice = {split: found.listed_twice for split, found in survey.splits.items()}
    files = [FoundFile(name, f"in '{split}'") for split, names in twice.items() for name in names]
    if not files:
        return []
    return [build_finding("listed-twice", f"Names listed twice: {len(files)}.", files)]


def check_unreadable(survey: Survey) -> list[Finding]:
    """Find files that no reader can open, among them those that end too early."""
    files = []
    for index, pair in enumerate(survey.pairs):
        for path, error in (
            (pair.image_path, pair.image_error),
            (pair.mask_path, pair.mask_error),
        ):
            if error is not None:
                reason = error.split(": ", 1)[-1].split(". ")[0]
                files.append(FoundFile(survey.relative(path), reason, index))
    if not files:
        return []
    return [build_finding("unreadable", f"{len(files)} of {2 * len(survey.pairs)} files.", files)]


def check_notes(survey: Survey) -> list[Finding]:
    """Find files that can be read, though not in whole."""
    files: dict[str, list[FoundFile]] = {"damaged-exif": [], "pages": []}
    for index, pair in enumerate(survey.pairs):
        for path, facts in ((pair.image_path, pair.image), (pair.mask_path, pair.mask)):
            for code in facts.notes if facts is not None else ():
                files[code].append(FoundFile(survey.relative(path), pair=index))
    total = 2 * len(survey.pairs)
    return [
        build_finding(code, f"{len(found)} of {total} files.", found)
        for code, found in files.items()
        if found
    ]


def is_swapped(pair: PairFacts) -> bool:
    """Tell whether the mask looks like a photograph, and the picture like a mask."""
    image, mask = pair.image, pair.mask
    if image is None or mask is None or image.num_values is None:
        return False
    many = mask.colors is None if mask.values is None else len(mask.values) > _MANY_VALUES
    return many and image.num_values <= _FEW_VALUES


def check_swapped(survey: Survey) -> list[Finding]:
    """Find pictures and masks that have changed places."""
    files = [
        survey.found_mask(index, "looks like a photograph")
        for index, pair in enumerate(survey.pairs)
        if is_swapped(pair)
    ]
    if not files:
        return []
    return [build_finding("swapped", f"{len(files)} of {len(survey.pairs)} pairs.", files)]


def is_turned(pair: PairFacts) -> bool | None:
    """Tell whether a mask belongs to the picture as stored, not as EXIF turns it; None: unclear.

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
    """Find pictures that EXIF turns while their masks stay, for certain or perhaps."""
    files: dict[bool | None, list[FoundFile]] = {True: [], None: [], False: []}
    for index, pair in enumerate(survey.pairs):
        detail = f"EXIF orientation {pair.image.orientation}" if pair.image else ""
        files[is_turned(pair)].append(survey.found_image(index, detail))
    findings = []
    if files[True]:
        summary = (
            f"{len(files[True])} of {len(survey.pairs)} masks, drawn on the picture as stored."
        )
        findings.append(build_finding("exif-rotation", summary, files[True]))
    if files[None]:
        summary = f"{len(files[None])} of {len(survey.pairs)} pictures."
        findings.append(build_finding("exif-unclear", summary, files[None]))
    return findings


def is_mismatched(pair: PairFacts) -> bool:
    """Tell whether picture and mask differ in size, and EXIF does not explain it."""
    if pair.image is None or pair.mask is None or is_turned(pair):
        return False
    return pair.image.hw != pair.mask.hw


def check_sizes(survey: Survey) -> list[Finding]:
    """Find masks of another size than their picture."""
    files = []
    for index, pair in enumerate(survey.pairs):
        if is_mismatched(pair):
            assert pair.image is not None
            assert pair.mask is not None
            detail = f"{_format_hw(pair.mask.hw)}, its picture {_format_hw(pair.image.hw)}"
            if pair.mask.hw == pair.image.hw[::-1]:
                detail += ": height and width exchanged"
            files.append(survey.found_mask(index, detail))
    if not files:
        return []
    return [build_finding("size-mismatch", f"{len(files)} of {len(survey.pairs)} pairs.", files)]


def check_split_overlap(survey: Survey) -> list[Finding]:
    """Find names that are both trained on and scored."""
    trained = {index: split for split in survey.train_splits for index in survey.members[split]}
    files, splits = [], set()
    for split in survey.held_out_splits:
        for index in survey.members[split]:
            if index in trained:
                splits.add((trained[index], split))
                detail = f"in '{trained[index]}' and '{split}'"
                files.append(survey.found_image(index, detail))
    if not files:
        return []
    lists = shorten([f"'{first}' and '{second}'" for first, second in sorted(splits)])
    return [build_finding("split-overlap", f"Names that are in {lists}: {len(files)}.", files)]


def _is_unlabelled(survey: Survey, split: str) -> bool:
    found = survey.splits[split]
    return split.startswith("test") and bool(found.images) and not found.masks


def _quote(names: list[str]) -> str:
    return shorten([f"'{name}'" for name in names])


def _format_hw(hw: tuple[int, int]) -> str:
    return f"{hw[1]} × {hw[0]}"
