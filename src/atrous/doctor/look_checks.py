"""Checks of how the images look: alike, blank, too small, off their masks."""

from collections import Counter, defaultdict

import numpy as np

from atrous.doctor.file_checks import is_mismatched, is_turned
from atrous.doctor.findings import Finding, FoundFile, build_findings, join_parts
from atrous.doctor.fit import GRID, TURNS, Fit
from atrous.doctor.prints import find_near_pairs, group_pairs
from atrous.doctor.survey import Survey

_MIN_FITS = 20
_MIN_BEST = 0.5
_MIN_GAIN = 0.8
_MIN_SHARE = 0.75
_GLARING_GAIN = 4.5
_EXCHANGED_GAIN = 3.0

_HOW = {
    "next": "on the image before theirs: images and masks are off by one",
    "previous": "on the image after theirs: images and masks are off by one",
}


def check_duplicates(survey: Survey) -> list[Finding]:
    """Find files that are the same byte for byte, and what their masks say."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for index, pair in enumerate(survey.pairs):
        if pair.image is not None:
            by_digest[pair.image.digest].append(index)
    groups = [group for group in by_digest.values() if len(group) > 1]
    pairs = [
        (min(anchor, other), max(anchor, other))
        for group in groups
        for anchor in _choose_anchors(survey, group)
        for other in group
        if anchor != other
    ]
    return [
        *_report_within(survey, "duplicates", pairs),
        *_report_across(survey, "duplicates-across", pairs, "the same as"),
        *_report_conflicts(survey, groups),
    ]


def check_near_duplicates(survey: Survey) -> list[Finding]:
    """Find images that look the same though their files differ."""
    chosen = [
        (index, pair.image)
        for index, pair in enumerate(survey.pairs)
        if pair.image is not None and not pair.image.is_constant
    ]
    near = find_near_pairs(
        [image.print for _, image in chosen], [image.thumbnail for _, image in chosen]
    )
    pairs = [
        (chosen[first][0], chosen[second][0])
        for first, second in near
        if chosen[first][1].digest != chosen[second][1].digest
    ]
    return [
        *_report_within(survey, "near-duplicates", pairs),
        *_report_across(survey, "near-duplicates-across", pairs, "looks like"),
    ]


def check_constant_images(survey: Survey) -> list[Finding]:
    """Find images in which there is nothing to be seen."""
    files = [
        survey.found_image(index)
        for index, pair in enumerate(survey.pairs)
        if pair.image is not None and pair.image.is_constant and pair.image.darkness is None
    ]
    return build_findings("constant-image", f"{len(files)} of {len(survey.pairs)} images.", files)


def check_nearly_black(survey: Survey) -> list[Finding]:
    """Find images of which 8 bits keep next to nothing."""
    files = [
        survey.found_image(index, pair.image.darkness)
        for index, pair in enumerate(survey.pairs)
        if pair.image is not None and pair.image.darkness is not None
    ]
    return build_findings("nearly-black", f"{len(files)} of {len(survey.pairs)} images.", files)


def check_sizes_for_crop(survey: Survey) -> list[Finding]:
    """Find images that are far smaller or far larger than the training crop."""
    crop = survey.crop_px
    small, large = [], []
    for index, pair in enumerate(survey.pairs):
        if pair.image is None:
            continue
        height, width = pair.image.hw
        found = survey.found_image(index, f"{width} × {height}")
        if 4 * min(height, crop) * min(width, crop) < crop * crop:
            small.append(found)
        elif min(height, width) > 8 * crop:
            large.append(found)
    of_all = f"of {len(survey.pairs)} images, for a crop of {crop} × {crop}."
    return [
        *build_findings("small-for-crop", f"{len(small)} {of_all}", small),
        *build_findings("large-for-crop", f"{len(large)} {of_all}", large),
    ]


def check_alignment(survey: Survey) -> list[Finding]:
    """Find masks that are off their images, all of a split or single ones; see `doctor.fit`.

    All are off if by one and the same change the score rises by 0.8 on average and in three
    quarters of the pairs, or if fewer than half of the masks fit better than turned ones would.
    A single mask is off if it fits no better than by chance and 4.5 better mirrored or turned; two
    neighbours are exchanged if each fits the other's image 3 better than its own.
    """
    fits = {
        index: pair.fit
        for index, pair in enumerate(survey.pairs)
        if pair.fit is not None and not is_mismatched(pair) and is_turned(pair) is False
    }
    parts: list[str] = []
    details: dict[int, str] = {}
    for split, members in survey.members.items():
        inside = {index: fits[index] for index in members if index in fits}
        if len(inside) >= _MIN_FITS and (reason := _find_common_fault(list(inside.values()))):
            parts.append(f"'{split}': most {reason}")
            details |= dict.fromkeys(sorted(inside, key=lambda index: inside[index].own), "")
    if not parts:
        details = _find_single_faults(survey, fits)
        parts = [f"{len(details)} of {len(fits)} masks"]
    files = [survey.found_mask(index, detail) for index, detail in details.items()]
    return build_findings("misaligned", join_parts(parts), files)


def _find_single_faults(survey: Survey, fits: dict[int, Fit]) -> dict[int, str]:
    found = {}
    for index, fit in fits.items():
        how, score = max(((how, fit.others[how]) for how in TURNS), key=lambda item: item[1])
        if fit.own < 1 and score - fit.own > _GLARING_GAIN:
            found[index] = f"would fit better {how}"
        after = fits.get(index + 1)
        if after is None:
            continue
        gains = (
            fit.others.get("next", 0.0) - fit.own,
            after.others.get("previous", 0.0) - after.own,
        )
        if min(gains) > _EXCHANGED_GAIN:
            names = [survey.pairs[place].name for place in (index, index + 1)]
            found |= {
                index: f"exchanged with {names[1]}",
                index + 1: f"exchanged with {names[0]}",
            }
    return found


def _find_common_fault(fits: list[Fit]) -> str | None:
    own = np.array([fit.own for fit in fits])
    for how in fits[0].others.keys() | {"next", "previous"}:
        other = np.array([fit.others.get(how, np.nan) for fit in fits])
        gain = (other - own)[~np.isnan(other)]
        is_enough = len(gain) >= _MIN_FITS / 2
        if is_enough and gain.mean() > _MIN_GAIN and (gain > 0).mean() > _MIN_SHARE:
            return f"would fit better {_HOW.get(how, how)}"
    shift, times = Counter(fit.best_shift for fit in fits).most_common(1)[0]
    gain = np.array([fit.best - fit.own for fit in fits if fit.best_shift == shift])
    if max(map(abs, shift)) > 1 and times > 0.5 * len(fits) and gain.mean() > _MIN_GAIN:
        down, right = (round(100 * cells / GRID) for cells in shift)
        return f"would fit better moved by {down} % of the height and {right} % of the width"
    best_turned = np.array([max(fit.others[how] for how in TURNS) for fit in fits])
    if (own > best_turned).mean() < _MIN_BEST:
        return "fit their images no better than turned or mirrored ones would"
    return None


def _choose_anchors(survey: Survey, group: list[int]) -> set[int]:
    """Return one image of each split, so that a group of n needs about n pairs, not n²."""
    return {
        next(index for index in group if index in members)
        for members in map(set, survey.members.values())
        if not members.isdisjoint(group)
    }


def _report_within(survey: Survey, code: str, pairs: list[tuple[int, int]]) -> list[Finding]:
    parts: list[str] = []
    files: dict[int, FoundFile] = {}
    for split, members in survey.members.items():
        chosen = set(members)
        inside = [pair for pair in pairs if chosen.issuperset(pair)]
        groups = group_pairs(inside)
        if groups:
            total = sum(map(len, groups))
            parts.append(
                f"'{split}': {total} of {len(members)} images in {len(groups)} groups, the "
                f"largest of {len(groups[0])}"
            )
        partner = _find_partners(inside)
        for group in groups:
            for index in group[1:]:
                other = partner[index]
                path = survey.relative(survey.pairs[other].image_path)
                files[index] = survey.found_image(index, f"like {path}", other)
    return build_findings(code, join_parts(parts), list(files.values()))


def _find_partners(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """Return for each image one that it is like itself, not by way of others: an earlier one."""
    partner: dict[int, int] = {}
    for first, second in sorted(pairs):
        partner.setdefault(first, second)
        if partner.setdefault(second, first) > second:
            partner[second] = first
    return partner


def _report_across(
    survey: Survey, code: str, pairs: list[tuple[int, int]], what: str
) -> list[Finding]:
    trained = set(survey.list_members(survey.train_splits))
    parts: list[str] = []
    files: dict[int, FoundFile] = {}
    for split in survey.held_out_splits:
        members = set(survey.members[split])
        like: dict[int, int] = {}
        for first, second in pairs:
            for scored, other in ((first, second), (second, first)):
                if scored in members and other in trained - members:
                    like.setdefault(scored, other)
        if like:
            parts.append(f"{len(like)} of {len(members)} images of '{split}'")
        for scored, other in sorted(like.items()):
            path = survey.relative(survey.pairs[other].image_path)
            files[scored] = survey.found_image(scored, f"{what} {path}", other)
    return build_findings(code, join_parts(parts), list(files.values()))


def _report_conflicts(survey: Survey, groups: list[list[int]]) -> list[Finding]:
    files: list[FoundFile] = []
    for group in groups:
        masks = {index: survey.pairs[index].mask for index in group}
        digests = {mask.digest for mask in masks.values() if mask and mask.digest}
        if len(digests) > 1:
            first = survey.relative(survey.pairs[group[0]].mask_path)
            files += [
                survey.found_mask(index, f"differs from {first}", group[0]) for index in group[1:]
            ]
    return build_findings("label-conflict", f"{len(files)} of {len(survey.pairs)} masks.", files)
