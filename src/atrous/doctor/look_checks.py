"""Checks of image contents: duplicates, videos across splits, alignment of image and mask."""

from collections import Counter, defaultdict

import numpy as np

from atrous.doctor.findings import Finding, FoundFile, build_findings, join_parts
from atrous.doctor.fit import GRID, TURNS, Fit
from atrous.doctor.survey import Survey
from atrous.images.image_hash import (
    find_near_pairs,
    group_pairs,
    normalize_thumbnails,
    split_number,
)

_MIN_FITS = 20
_MIN_BEST_SHARE = 0.5
_MIN_GAIN = 0.8
_MIN_GAIN_SHARE = 0.75
_MIN_SINGLE_GAIN = 4.5
_MIN_EXCHANGED_GAIN = 3.0

_MIN_IN_SERIES = 10
_MIN_CORRELATION = 0.5
_MIN_DEVIATIONS = 3.0

_HOW = {
    "next": "on the image before theirs: images and masks are off by one",
    "previous": "on the image after theirs: images and masks are off by one",
}


def check_duplicates(survey: Survey) -> list[Finding]:
    """Find identical image files, and those whose masks differ."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for index, image in survey.images:
        by_digest[image.digest].append(index)
    groups = [group for group in by_digest.values() if len(group) > 1]
    pairs = [
        (min(first, other), max(first, other))
        for group in groups
        for first in _list_first_per_split(survey, group)
        for other in group
        if first != other
    ]
    return [
        *_report_within(survey, "duplicates", pairs),
        *_report_across(survey, "duplicates-across", pairs, "the same as"),
        *_report_conflicts(survey, groups),
    ]


def check_near_duplicates(survey: Survey) -> list[Finding]:
    """Find images that look nearly the same although their files differ."""
    chosen = {index: image for index, image in survey.images if not image.is_constant}
    prints = {index: (image.image_hash, image.thumbnail) for index, image in chosen.items()}
    pairs = [
        (first, second)
        for first, second in find_near_pairs(prints)
        if chosen[first].digest != chosen[second].digest
    ]
    return [
        *_report_within(survey, "near-duplicates", pairs),
        *_report_across(survey, "near-duplicates-across", pairs, "looks like"),
    ]


def _list_first_per_split(survey: Survey, group: list[int]) -> set[int]:
    """Return the first image of each split, so that a group of n yields about n pairs, not n²."""
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
        inside = sorted(pair for pair in pairs if chosen.issuperset(pair))
        if groups := group_pairs(inside):
            total = sum(map(len, groups))
            parts.append(
                f"'{split}': {total} of {len(members)} images in {len(groups)} "
                f"group{'s' * (len(groups) > 1)}, the largest of {len(groups[0])}"
            )
        partners: dict[int, int] = {}
        for first, second in inside:
            partners.setdefault(first, second)
            partners.setdefault(second, first)
        for index in (index for group in groups for index in group[1:]):
            files[index] = survey.found_image(index, "like", partners[index])
    return build_findings(code, join_parts(parts), list(files.values()))


def _report_across(
    survey: Survey, code: str, pairs: list[tuple[int, int]], relation: str
) -> list[Finding]:
    trained = survey.list_members(survey.train_splits)
    parts: list[str] = []
    files: dict[int, FoundFile] = {}
    for split in survey.held_out_splits:
        members = set(survey.members[split])
        only_trained = trained - members
        like: dict[int, int] = {}
        for first, second in pairs:
            for scored, other in ((first, second), (second, first)):
                if scored in members and other in only_trained:
                    like.setdefault(scored, other)
        if like:
            parts.append(f"{len(like)} of {len(members)} images of '{split}'")
        for scored, other in sorted(like.items()):
            files[scored] = survey.found_image(scored, relation, other)
    return build_findings(code, join_parts(parts), list(files.values()))


def _report_conflicts(survey: Survey, groups: list[list[int]]) -> list[Finding]:
    files: list[FoundFile] = []
    for group in groups:
        masks = [survey.pairs[index].mask for index in group]
        if len({mask.digest for mask in masks if mask and mask.digest}) > 1:
            files += [survey.found_mask(i, "differs from", group[0]) for i in group[1:]]
    return build_findings("label-conflict", f"{len(files)} of {len(survey.pairs)} masks.", files)


def check_shared_series(survey: Survey) -> list[Finding]:
    """Find numbered series, such as frames of one video, in both training and held-out splits.

    Each held-out image is compared with the training image of the nearest number. If numbers have
    no meaning, their correlation is above the median over the series in half of the cases. A
    series is reported if it is more often (by 3 standard deviations of chance) and the median
    correlation is at least 0.5. In CamVid it is above in 82 of 101 cases, in VOC in half of them.
    """
    findings = []
    trained = _group_by_series(survey, survey.train_splits)
    for split in survey.held_out_splits:
        parts: list[str] = []
        files: list[FoundFile] = []
        for series, scored in _group_by_series(survey, [split]).items():
            neighbours = trained.get(series, {})
            if min(len(scored), len(neighbours)) < _MIN_IN_SERIES:
                continue
            if nearest := _find_nearest(survey, scored, neighbours):
                name = f"'{series}'" if series else "Names that are numbers"
                parts.append(f"{name}: {len(scored)} of '{split}', {len(neighbours)} trained on")
                files += nearest
        findings += build_findings("series-across", join_parts(parts), files)
    return findings


def _group_by_series(survey: Survey, splits: list[str]) -> dict[str, dict[int, int]]:
    """Return series → number → pair index, of the images whose names end in a number."""
    series: dict[str, dict[int, int]] = defaultdict(dict)
    members = survey.list_members(splits)
    for index, image in survey.images:
        found = split_number(survey.pairs[index].image_path.stem)
        if found and index in members and not image.is_constant:
            series[found[0]][found[1]] = index
    return series


def _find_nearest(
    survey: Survey, scored: dict[int, int], neighbours: dict[int, int]
) -> list[FoundFile]:
    """Return each held-out image with its neighbour by number; empty if it is no video."""
    thumbnails = {index: image.thumbnail for index, image in survey.images}
    numbers = np.array(sorted(neighbours))
    own = normalize_thumbnails([thumbnails[index] for index in scored.values()])
    others = [thumbnails[neighbours[number]] for number in numbers.tolist()]
    correlation = own @ normalize_thumbnails(others).T
    nearest = np.abs(numbers[None] - np.array(list(scored))[:, None]).argmin(axis=1)
    found = correlation[np.arange(len(nearest)), nearest]
    num_above = int((found > np.median(correlation, axis=1)).sum())
    deviations = (num_above - len(found) / 2) / (np.sqrt(len(found)) / 2)
    if deviations < _MIN_DEVIATIONS or np.median(found) < _MIN_CORRELATION:
        return []
    return [
        survey.found_image(index, "next to", neighbours[number])
        for index, number in zip(scored.values(), numbers[nearest].tolist(), strict=True)
    ]


def check_alignment(survey: Survey) -> list[Finding]:
    """Find masks that are not aligned with their images; see `doctor.fit` for the scores.

    A whole split is misaligned if one change of the masks raises the score by 0.8 on average and
    in three quarters of the pairs, or if fewer than half of the masks fit better than turned ones.
    A single mask is misaligned if its score is below 1 and 4.5 higher when it is mirrored or
    turned; two neighbours are exchanged if each scores 3 higher on the other's image.
    """
    fits = {
        index: pair.fit
        for index, pair in enumerate(survey.pairs)
        if pair.fit is not None and not pair.is_mismatched and pair.is_turned is False
    }
    parts: list[str] = []
    details: dict[int, str] = {}
    for split, members in survey.members.items():
        inside = [index for index in members if index in fits]
        if reason := _describe_common_fault([fits[index] for index in inside]):
            parts.append(f"'{split}': most {reason}")
            details |= dict.fromkeys(sorted(inside, key=lambda index: fits[index].own), "")
    if not parts:
        details = _find_single_faults(survey, fits)
        parts = [f"{len(details)} of {len(fits)} masks"]
    files = [survey.found_mask(index, detail) for index, detail in details.items()]
    return build_findings("misaligned", join_parts(parts), files)


def _find_single_faults(survey: Survey, fits: dict[int, Fit]) -> dict[int, str]:
    found = {}
    for index, fit in fits.items():
        how, score = max(((how, fit.others[how]) for how in TURNS), key=lambda item: item[1])
        if fit.own < 1 and score - fit.own > _MIN_SINGLE_GAIN:
            found[index] = f"would fit better {how}"
        if after := fits.get(index + 1):
            gain = fit.others.get("next", 0.0) - fit.own
            gain_after = after.others.get("previous", 0.0) - after.own
            if min(gain, gain_after) > _MIN_EXCHANGED_GAIN:
                found[index] = f"exchanged with {survey.pairs[index + 1].name}"
                found[index + 1] = f"exchanged with {survey.pairs[index].name}"
    return found


def _describe_common_fault(fits: list[Fit]) -> str | None:
    if len(fits) < _MIN_FITS:
        return None
    own = np.array([fit.own for fit in fits])
    for how in fits[0].others.keys() | {"next", "previous"}:
        other = np.array([fit.others.get(how, np.nan) for fit in fits])
        gain = (other - own)[~np.isnan(other)]
        is_enough = len(gain) >= _MIN_FITS / 2
        if is_enough and gain.mean() > _MIN_GAIN and (gain > 0).mean() > _MIN_GAIN_SHARE:
            return f"would fit better {_HOW.get(how, how)}"
    shift, times = Counter(fit.best_shift for fit in fits).most_common(1)[0]
    gain = np.array([fit.best - fit.own for fit in fits if fit.best_shift == shift])
    if max(map(abs, shift)) > 1 and times > 0.5 * len(fits) and gain.mean() > _MIN_GAIN:
        down, right = (round(100 * cells / GRID) for cells in shift)
        return f"would fit better moved by {down} % of the height and {right} % of the width"
    best_turned = np.array([max(fit.others[how] for how in TURNS) for fit in fits])
    if (own > best_turned).mean() < _MIN_BEST_SHARE:
        return "fit their images no better than turned or mirrored ones would"
    return None
