"""Checks of the classes: in which splits they occur, and how often."""

from collections.abc import Iterable

from atrous.data.palettes import has_wide_gaps
from atrous.data.sample import shorten
from atrous.doctor.findings import Finding, build_findings
from atrous.doctor.survey import Survey

_MIN_IMBALANCE = 200


def check_classes(survey: Survey) -> list[Finding]:
    """Find class numbers with gaps, and classes that occur in some splits only, or nowhere."""
    used = _list_used(survey, survey.splits)
    findings = []
    if len(used) == 1 and not survey.binary_masks:
        summary = f"Only '{survey.classes.names[used[0]]}' occurs."
        findings += build_findings("single-class", summary)
    if survey.given is None and has_wide_gaps(set(used)):
        num_classes = used[-1] + 1
        summary = (
            f"{len(used)} values occur, {shorten(used, 12)}; that makes {num_classes} classes."
        )
        if any(survey.ignore_index in (mask.values or {}) for _, mask in survey.index_masks):
            summary += f" {survey.ignore_index} occurs too and is ignored."
        return findings + build_findings("value-gaps", summary, values=used)
    if not used or survey.binary_masks or survey.id_masks:
        return findings
    if unused := set(range(len(survey.classes))) - set(used):
        findings += build_findings("class-unused", f"{_name(survey, unused)}.")
    return findings + _find_missing_classes(survey)


def _find_missing_classes(survey: Survey) -> list[Finding]:
    """Find classes that occur only in training or only in held-out splits."""
    held_out = set(_list_used(survey, survey.held_out_splits))
    parts, missing = [], set()
    for split in survey.train_splits:
        if only := held_out - set(_list_used(survey, [split])):
            missing |= only
            parts.append(f"'{split}' never shows {_name(survey, only)}")
    chosen = set(survey.list_members(survey.held_out_splits))
    files = [
        survey.found_mask(index, _name(survey, here))
        for index, mask in survey.index_masks
        if index in chosen and (here := missing & set(mask.values or {}))
    ]
    findings = build_findings("class-only-in-val", "; ".join(parts) + ".", files)
    trained = set(_list_used(survey, survey.train_splits))
    parts = [
        f"'{split}' has no {_name(survey, never)}"
        for split in survey.held_out_splits
        if survey.members[split] and (never := trained - set(_list_used(survey, [split])))
    ]
    if parts:
        findings += build_findings("class-not-in-val", "; ".join(parts) + ".")
    return findings


def check_imbalance(survey: Survey) -> list[Finding]:
    """Find training splits in which one class has far more pixels than another."""
    parts = []
    for split in survey.train_splits if not survey.id_masks else ():
        pixels = survey.count_pixels([split]).pixels
        ratio = compute_imbalance(pixels)
        if ratio is not None and ratio >= _MIN_IMBALANCE:
            most = _name(survey, [pixels.index(max(pixels))])
            rarest = _name(survey, [pixels.index(min(filter(None, pixels)))])
            parts.append(f"'{split}': {most} has {ratio:,.0f} times the pixels of {rarest}")
    return build_findings("imbalance", "; ".join(parts) + ".") if parts else []


def compute_imbalance(pixels: list[int]) -> float | None:
    """Return most over fewest pixels of the classes that occur; None below two classes."""
    present = [count for count in pixels if count]
    return max(present) / min(present) if len(present) > 1 else None


def _list_used(survey: Survey, splits: Iterable[str]) -> list[int]:
    """Return the sorted classes that occur in some splits; interpolated masks do not count."""
    chosen = set(survey.list_members(splits))
    return sorted(
        {
            value
            for index, mask in survey.index_masks
            if index in chosen and not mask.is_interpolated
            for value in survey.list_classes(mask)
            if value < len(survey.classes)
        }
    )


def _name(survey: Survey, classes: Iterable[int]) -> str:
    return shorten([survey.classes.names[index] for index in sorted(classes)], 24)
